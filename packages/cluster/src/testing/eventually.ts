/** Asks again until there is an answer, also after an error; the last one is the cause when there never is. */
import { setTimeout as delay } from "node:timers/promises";

const limitMs = 60_000;

export async function eventually<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const endMs = Date.now() + limitMs;
  let last: unknown;
  while (Date.now() < endMs) {
    const found = await look().catch((error: unknown) => {
      last = error;
      return undefined;
    });
    if (found !== undefined) return found;
    await delay(50);
  }
  throw new Error(`${what}: not within ${limitMs} ms`, { cause: last });
}
