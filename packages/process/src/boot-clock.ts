/** A clock that nobody sets and that goes on while the host sleeps: CLOCK_BOOTTIME, for which Node has no call. */
import { readFileSync } from "node:fs";

/** Milliseconds since the host booted; proc(5) uptime counts hundredths of a second. */
export function hostBootMs(): number {
  return Math.floor(Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000);
}
