/** Lists of the API stand alone or under a name; both are read. */
export function listIn<T>(body: unknown, name: string): T[] {
  if (Array.isArray(body)) return body as T[];
  const named = (body as Record<string, unknown> | undefined)?.[name];
  return Array.isArray(named) ? (named as T[]) : [];
}
