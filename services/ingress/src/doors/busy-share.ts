/** How much of its time a process was at work. */
import { performance } from "node:perf_hooks";

/** Each call answers for the time since the last one, from 0 to 1. */
export function busyShare(): () => number {
  let before = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    return utilization;
  };
}
