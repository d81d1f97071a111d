/** What is to be done for one name now, and what a failure leads to: pure, over its fact. */
import {
  attemptsPerHour,
  isRateLimited,
  problemOf,
  renewAtMs,
  retryDelayMs,
  unsaidLimitMs,
} from "@hearth/acme";
import { HearthError } from "@hearth/errors";
import type { AcmeFact } from "@hearth/machine";

const hourMs = 3_600_000;
const keptFailures = 5;

export type Due =
  /** There is nothing to do before this time of the wall clock. */
  | { readonly kind: "later"; readonly atMs: number }
  /** Somebody is at it. */
  | { readonly kind: "held" }
  | { readonly kind: "now" };

export function due(fact: AcmeFact | undefined, hostname: string, nowMs: number): Due {
  if (fact === undefined) return { kind: "now" };
  if (fact.holder !== undefined) return { kind: "held" };
  const { certificate, attempts_ms, next_attempt_ms, rate_limited_until_ms = 0 } = fact;
  // A clock that was set back must not keep a name waiting for longer than an hour.
  const recent = attempts_ms.filter((ms) => ms > nowMs - hourMs && ms <= nowMs);
  const [oldest = 0] = recent.slice(-attemptsPerHour);
  const atMs = Math.max(
    certificate === undefined ? 0 : renewAtMs(hostname, certificate),
    next_attempt_ms,
    rate_limited_until_ms,
    recent.length >= attemptsPerHour ? oldest + hourMs : 0,
  );
  return atMs <= nowMs ? { kind: "now" } : { kind: "later", atMs };
}

/** The fact with which a process begins. One that goes on with another's order begins no new attempt. */
export function begun(
  known: AcmeFact | undefined,
  {
    hostname,
    directory,
    holder,
    nowMs,
  }: {
    readonly hostname: string;
    readonly directory: string;
    readonly holder: string;
    readonly nowMs: number;
  },
): AcmeFact {
  const before = known ?? {
    ...{
      hostname,
      directory,
      term: 0,
      beat: 0,
      attempts_ms: [],
      failed: 0,
      next_attempt_ms: 0,
      failures: [],
    },
  };
  const isTaken = known?.holder !== undefined;
  // An order of another authority is nothing to this one.
  const order = before.directory === directory ? before.order : undefined;
  const recent = before.attempts_ms.filter((ms) => ms > nowMs - hourMs && ms <= nowMs);
  return {
    ...before,
    ...{ directory, order, holder, term: before.term + 1, beat: before.beat + 1 },
    attempts_ms: isTaken && order !== undefined ? recent : [...recent, nowMs],
    rate_limited_until_ms: undefined,
  };
}

export function failed(
  fact: AcmeFact,
  thrown: unknown,
  at: { readonly nowMs: number; readonly random: number },
): Partial<AcmeFact> {
  const { nowMs, random } = at;
  const error = HearthError.from(thrown);
  const problem = problemOf(error);
  const count = fact.failed + 1;
  const waitMs = Math.max(retryDelayMs(count, random), problem?.retryAfterMs ?? 0);
  const failure = {
    code: problem?.type ?? error.code,
    message: problem?.detail ?? publicText(error),
    at_ms: nowMs,
  };
  const isLimited = problem !== undefined && isRateLimited(problem);
  return {
    failed: count,
    next_attempt_ms: nowMs + waitMs,
    failures: [...fact.failures, failure].slice(-keptFailures),
    // What the authority has judged is over; what it was not reached for goes on later.
    order: problem === undefined ? fact.order : undefined,
    rate_limited_until_ms: isLimited ? nowMs + (problem.retryAfterMs ?? unsaidLimitMs) : undefined,
  };
}

/** Paths of a host are for its operator, who has them in the log. */
const publicText = ({ code, message }: HearthError): string =>
  code === "host_requirement_missing"
    ? "The region's settings of ACME are not complete; its operator has the details in the log of the API."
    : message;
