/**
 * An act with a limit, of which nothing goes on unseen. At the limit the act is told to stop by its signal, and
 * then waited for: as long as it may still change the host, repeating or undoing it would meet it half-way.
 */
import { HearthError } from "@hearth/errors";

export type LimitedAct<T> =
  | { readonly kind: "settled"; readonly value: T }
  | { readonly kind: "thrown"; readonly error: HearthError }
  /** It neither ended nor heeded its signal: it may still act. */
  | { readonly kind: "abandoned" };

export interface ActLimits {
  readonly limitMs: number;
  /** From the signal to the moment at which it is given up. */
  readonly abandonMs: number;
  /** Tells it to stop before its limit. */
  readonly signal: AbortSignal;
}

export async function limitAct<T>(
  { limitMs, abandonMs, signal }: ActLimits,
  act: (signal: AbortSignal) => Promise<T>,
): Promise<LimitedAct<T>> {
  const ending = new AbortController();
  const limit = setTimeout(() => ending.abort(new HearthError("deadline_exceeded")), limitMs);
  const limited = AbortSignal.any([signal, ending.signal]);
  const abandoned = Promise.withResolvers<LimitedAct<T>>();
  let lastCall: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    lastCall = setTimeout(() => abandoned.resolve({ kind: "abandoned" }), abandonMs);
  };
  if (limited.aborted) onAbort();
  else limited.addEventListener("abort", onAbort, { once: true });
  const settled = act(limited).then(
    (value): LimitedAct<T> => ({ kind: "settled", value }),
    // What a stopped act throws says only that it was stopped.
    (thrown): LimitedAct<T> => ({
      kind: "thrown",
      error: ending.signal.aborted ? deadline(thrown) : HearthError.from(thrown),
    }),
  );
  try {
    return await Promise.race([settled, abandoned.promise]);
  } finally {
    clearTimeout(limit);
    clearTimeout(lastCall);
    limited.removeEventListener("abort", onAbort);
  }
}

function deadline(thrown: unknown): HearthError {
  const error = HearthError.from(thrown);
  return error.code === "cancelled" || error.code === "internal"
    ? new HearthError("deadline_exceeded", { cause: thrown })
    : error;
}
