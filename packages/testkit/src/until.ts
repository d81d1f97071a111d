import { setTimeout as delay } from "node:timers/promises";

const pauseMs = 100;

/** Asks again until there is an answer. @throws Error naming what did not happen */
export async function until<T>(
  what: string,
  limitMs: number,
  probe: () => Promise<T | undefined>,
): Promise<T> {
  const endMs = Date.now() + limitMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined) return found;
    if (Date.now() > endMs) throw new Error(`${what}: not within ${limitMs} ms`);
    await delay(pauseMs);
  }
}
