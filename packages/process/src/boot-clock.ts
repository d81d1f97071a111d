/** A clock that nobody sets and that goes on while the host sleeps: CLOCK_BOOTTIME, for which Node has no call. */
import { readFileSync } from "node:fs";

/** The clock's step: proc(5) uptime counts hundredths of a second. */
export const hostBootStepMs = 10;

/** Milliseconds since the host booted. */
export function hostBootMs(): number {
  return Math.floor(Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000);
}
