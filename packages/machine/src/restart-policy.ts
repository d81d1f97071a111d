/**
 * Whether a machine that exited starts again, and when. Pure: the policy, the exit and what happened before
 * decide. Each restart waits twice as long as the one before, and counts against `max_retries`, until a run of
 * `healthyRunMs` forgives all of them. Restarts are counted in a row and not within a window of time, because
 * with the longest delay a window holds so few of them that a larger `max_retries` would never be reached.
 */
import type { MachineExit } from "./record.ts";

export type RestartPolicyName = "no" | "on-failure" | "always" | "spot-price";

export interface RestartPolicy {
  readonly policy?: RestartPolicyName;
  readonly max_retries?: number;
}

export type RestartDecision =
  | { readonly kind: "restart"; readonly afterMs: number; readonly attempt: number }
  | { readonly kind: "stop"; readonly reason: "requested" | "policy" | "clean_exit" | "retries_exhausted" };

export const healthyRunMs = 5 * 60_000;
export const defaultMaxRetries = 10;
export const firstDelayMs = 100;
export const longestDelayMs = 30_000;
/** More restarts in a row are not remembered, so a larger `max_retries` is none. */
export const rememberedRestarts = 1_000;

/** The restarts that an exit still counts with: none after a healthy run. */
export function restartsInARow(
  restartsAtMs: readonly number[],
  exit: MachineExit,
  startedAtMs: number | null,
): readonly number[] {
  const healthy = startedAtMs !== null && exit.exitedAtMs - startedAtMs >= healthyRunMs;
  return healthy ? [] : restartsAtMs.slice(1 - rememberedRestarts);
}

/**
 * @param restartsAtMs those that `restartsInARow` gave
 * `max_retries` bounds `on-failure`; `always` is bounded by nothing but its delays.
 */
export function decideRestart(
  restart: RestartPolicy | undefined,
  exit: MachineExit,
  restartsAtMs: readonly number[],
): RestartDecision {
  const policy = restart?.policy ?? "on-failure";
  if (exit.requestedStop) return { kind: "stop", reason: "requested" };
  if (policy === "no") return { kind: "stop", reason: "policy" };
  if (policy !== "always" && isClean(exit)) return { kind: "stop", reason: "clean_exit" };
  const before = restartsAtMs.length;
  const limit = policy === "always" ? Number.POSITIVE_INFINITY : (restart?.max_retries ?? defaultMaxRetries);
  if (before >= limit) return { kind: "stop", reason: "retries_exhausted" };
  return {
    kind: "restart",
    afterMs: Math.min(longestDelayMs, firstDelayMs * 2 ** before),
    attempt: before + 1,
  };
}

const isClean = (exit: MachineExit): boolean =>
  exit.exitCode === 0 && exit.signal <= 0 && !exit.oomKilled && exit.error === undefined;
