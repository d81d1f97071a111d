/**
 * Stops machines that nobody needs. One at a time for each app, so that each stop is judged by what is left: enough
 * machines run, the one had nothing to do for long enough, and what the others have to do leaves room for more. While
 * it is being stopped it is given nothing new.
 */

import type { RouteTable } from "../routes/route-table.ts";
import type { Targets } from "../routes/targets.ts";
import type { LoadedPlace } from "./choose-place.ts";
import { noOtherLoads, type OtherLoads } from "./other-loads.ts";

export interface AutostopDeps {
  readonly nodeId: string;
  readonly table: RouteTable;
  readonly targets: Targets;
  readonly others: OtherLoads;
  readonly idleMs: number;
  /** The worker of this host stops it. */
  readonly stop: (machineId: string) => Promise<void>;
  /** The other processes are told before it is stopped, and when it was not. */
  readonly draining?: (machineId: string, isDraining: boolean) => void;
  readonly log: (fields: object, text: string) => void;
}

export interface IdleRule {
  readonly nodeId: string;
  readonly nowMs: number;
  readonly idleMs: number;
  readonly others?: OtherLoads;
}

export class Autostop {
  readonly #deps: AutostopDeps;

  constructor(deps: AutostopDeps) {
    this.#deps = deps;
  }

  async look(): Promise<void> {
    const { nodeId, table, targets, others, idleMs } = this.#deps;
    for (const app of table.apps()) {
      const places = targets.placesOf(app);
      const idle = idlePlace(places, { nodeId, nowMs: performance.now(), idleMs, others });
      if (idle !== undefined) await this.#stop(app, idle.endpoint.id, places);
    }
  }

  async #stop(app: string, id: string, places: readonly LoadedPlace[]): Promise<void> {
    const { stop, draining, log } = this.#deps;
    const own = places.filter(({ endpoint }) => endpoint.id === id);
    for (const { load } of own) load.draining = true;
    draining?.(id, true);
    log({ event: "autostop", app, machine_id: id }, "stopping a machine that nobody needs");
    await stop(id).catch((error: unknown) => log({ err: error, machine_id: id }, "it was not stopped"));
    draining?.(id, false);
    for (const { load } of own) {
      load.draining = false;
      load.busyMs = performance.now();
    }
  }
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
