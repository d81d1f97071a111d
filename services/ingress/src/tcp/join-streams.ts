/**
 * Two connections joined: what one sends the other gets, only as fast as it takes it, and the end of one direction
 * leaves the other open. Nothing is kept beyond what the two sockets hold.
 */
import type { Duplex } from "node:stream";

interface IdleSocket extends Duplex {
  setTimeout?(ms: number): unknown;
}

/** Resolves with the first error, or nothing, when both are closed. */
export function joinStreams(one: IdleSocket, other: IdleSocket, idleMs: number): Promise<Error | undefined> {
  return new Promise((resolve) => {
    let failed: Error | undefined;
    let open = 2;
    const destroy = (error?: Error): void => {
      failed ??= error;
      one.destroy();
      other.destroy();
    };
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const) {
      from.on("error", destroy);
      from.on("timeout", () => destroy(new Error("idle")));
      from.setTimeout?.(idleMs);
      from.on("close", () => {
        // One that went without an end was broken off, and so is the other.
        if (!from.readableEnded) destroy();
        open -= 1;
        if (open === 0) resolve(failed);
      });
      from.pipe(to);
      if (from.destroyed) {
        destroy();
        open -= 1;
      }
    }
    if (open === 0) resolve(failed);
  });
}
