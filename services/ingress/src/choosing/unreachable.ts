/**
 * Whether a connection failed as if nobody were there, and not as if a machine had refused it: by the codes of
 * connect(2), of which a connection that took too long is the one that a host has that was lost.
 */
const codes: ReadonlySet<string> = new Set([
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EHOSTDOWN",
  "ENETDOWN",
]);

/** For what has a time limit of its own for connecting. */
export const connectTimeout = (): Error =>
  Object.assign(new Error("The machine did not take the connection in time."), { code: "ETIMEDOUT" });

export const looksUnreachable = (error: unknown): boolean =>
  codes.has((error as NodeJS.ErrnoException | undefined)?.code ?? "");
