/**
 * Whether a machine that exited starts again, and when. Pure: the policy, the exit and what happened before
 * decide. Each restart within the window waits twice as long as the one before; a machine that ran for a whole
 * window begins anew.
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

export const restartWindowMs = 5 * 60_000;
export const defaultMaxRetries = 10;
const firstDelayMs = 100;
const longestDelayMs = 30_000;

/**
 * @param restartsAtMs when earlier restarts happened, in any order
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
  const since = exit.exitedAtMs - restartWindowMs;
  const recent = restartsAtMs.filter((at) => at > since).length;
  const limit = policy === "always" ? Number.POSITIVE_INFINITY : (restart?.max_retries ?? defaultMaxRetries);
  if (recent >= limit) return { kind: "stop", reason: "retries_exhausted" };
  return {
    kind: "restart",
    afterMs: Math.min(longestDelayMs, firstDelayMs * 2 ** recent),
    attempt: recent + 1,
  };
}

const isClean = (exit: MachineExit): boolean =>
  exit.exitCode === 0 && exit.signal <= 0 && !exit.oomKilled && exit.error === undefined;
