/** One wait on a condition that somebody else says to look at again. */
import { HearthError } from "@hearth/errors";

/** @throws HearthError `deadline_exceeded` with these details, `cancelled`; and what `reached` throws */
export async function until(
  waiters: Set<() => void>,
  limits: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  details: Readonly<Record<string, unknown>>,
  reached: () => boolean,
): Promise<void> {
  if (reached()) return;
  await new Promise<void>((resolve, reject) => {
    const settle = (done: () => void): void => {
      clearTimeout(timer);
      limits.signal?.removeEventListener("abort", aborted);
      waiters.delete(look);
      done();
    };
    const look = (): void => {
      try {
        if (reached()) settle(resolve);
      } catch (error) {
        settle(() => reject(error));
      }
    };
    const aborted = (): void =>
      settle(() => reject(new HearthError("cancelled", { cause: limits.signal?.reason })));
    const timer = setTimeout(
      () => settle(() => reject(new HearthError("deadline_exceeded", { details }))),
      limits.timeoutMs,
    );
    waiters.add(look);
    if (limits.signal?.aborted) aborted();
    else limits.signal?.addEventListener("abort", aborted, { once: true });
  });
}
