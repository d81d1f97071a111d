/**
 * When a certificate is asked for again: pure. Renewal is at two thirds of its life, and up to a twentieth of it
 * earlier, by its name, so that certificates that were made together are not renewed together.
 *
 * Attempts that fail are further apart each time, and never more than the authority with the strictest known limit
 * allows: five failed validations of a name in an hour (Let's Encrypt).
 */
import { createHash } from "node:crypto";

export const attemptsPerHour = 5;
const minute = 60_000;
const delaysMs = [minute, 5 * minute, 15 * minute, 60 * minute, 4 * 60 * minute, 12 * 60 * minute];
const longestDelayMs = 24 * 60 * minute;
/** An authority that limits and does not say for how long. */
export const unsaidLimitMs = 60 * minute;

export interface Life {
  readonly not_before_ms: number;
  readonly not_after_ms: number;
}

/** The same on every host. */
export function renewAtMs(hostname: string, { not_before_ms, not_after_ms }: Life): number {
  const life = not_after_ms - not_before_ms;
  const share = createHash("sha256").update(`renew ${hostname}`).digest().readUInt32BE(0) / 2 ** 32;
  return Math.round(not_before_ms + life * (2 / 3 - share / 20));
}

/** @param failed in a row, this one included */
export function retryDelayMs(failed: number, random: number): number {
  const delay = delaysMs[Math.max(0, failed - 1)] ?? longestDelayMs;
  return Math.round(delay * (1 + random / 4));
}
