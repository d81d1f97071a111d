/**
 * When a machine with a `schedule` has its turns. As in the Machines API, the interval begins at the time of the
 * machine's creation, which also spreads the turns of many machines over the hour or the day. Pure.
 */
import type { MachineConfigInput } from "./config-schema.ts";

export type ScheduleName = NonNullable<MachineConfigInput["schedule"]>;

const hourMs = 3_600_000;
const fixedMs = { hourly: hourMs, daily: 24 * hourMs, weekly: 7 * 24 * hourMs } as const;

/**
 * The first turn after `nowMs`: always later than it, and a whole number of periods after `createdMs`. Months are
 * those of UTC; a day that a month does not have is its last one, and the months after it are not moved by that.
 */
export function nextTurnMs(schedule: ScheduleName, createdMs: number, nowMs: number): number {
  if (schedule === "monthly") return nextMonthlyMs(createdMs, nowMs);
  const periodMs = fixedMs[schedule];
  const passed = Math.floor((nowMs - createdMs) / periodMs);
  return createdMs + Math.max(1, passed + 1) * periodMs;
}

function nextMonthlyMs(createdMs: number, nowMs: number): number {
  const from = new Date(createdMs);
  const now = new Date(nowMs);
  const passed = (now.getUTCFullYear() - from.getUTCFullYear()) * 12 + now.getUTCMonth() - from.getUTCMonth();
  const count = Math.max(1, passed);
  const turnMs = monthsLaterMs(from, count);
  return turnMs > nowMs ? turnMs : monthsLaterMs(from, count + 1);
}

function monthsLaterMs(from: Date, count: number): number {
  const year = from.getUTCFullYear();
  const month = from.getUTCMonth() + count;
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  const midnight = Date.UTC(year, month, Math.min(from.getUTCDate(), lastDay));
  return midnight + (from.getTime() % (24 * hourMs));
}
