/**
 * Which machine may be stopped because nobody needs it: pure. One at a time for each app, so that each stop is judged
 * by what is left: enough machines run, the one had nothing to do for long enough, and what the others have to do
 * leaves room for more.
 */
import type { LoadedPlace } from "./choose-place.ts";
import { noOtherLoads, type OtherLoads } from "./other-loads.ts";

export interface IdleRule {
  readonly nodeId: string;
  readonly nowMs: number;
  readonly idleMs: number;
  readonly others?: OtherLoads;
}

/** @param places all services of all machines of one app */
export function idlePlace(
  places: readonly LoadedPlace[],
  { nodeId, nowMs, idleMs, others = noOtherLoads }: IdleRule,
): LoadedPlace | undefined {
  const running = places.filter(({ endpoint, load }) => endpoint.state === "ready" && !load.draining);
  const runningIds = new Set(running.map(({ endpoint }) => endpoint.id));
  return running.find(({ endpoint, service }) => {
    if (service.autostop === "off" || endpoint.nodeId !== nodeId) return false;
    if (runningIds.size <= service.minRunning || others.of(endpoint.id) > 0) return false;
    // A machine is idle when all its services are.
    const own = running.filter((place) => place.endpoint.id === endpoint.id);
    return own.every(({ load, service: { autostop } }) => {
      return autostop !== "off" && load.active === 0 && nowMs - load.busyMs >= idleMs;
    });
  });
}
