/**
 * Tells the doors of other hosts which of their machines are in use from here.
 *
 * A machine is stopped by its own host when nobody needs it, and what came for it through this door its own host would
 * not see. So each door says now and then what it had something for since it last said so; whoever hears it counts the
 * machine as in use now. The period is far shorter than the time after which a machine is stopped, and what could not
 * be said is said with the next word. A machine that is new to this door counts as in use once.
 */
import { maxUsedMachines } from "@hearth/machine";
import type { RouteTable } from "../routes/route-table.ts";
import type { Targets } from "../routes/targets.ts";

export interface FarUseDeps {
  readonly nodeId: string;
  readonly table: Pick<RouteTable, "machine">;
  readonly loads: Pick<Targets, "loadOf" | "loads">;
  readonly tell: (nodeId: string, machineIds: readonly string[]) => Promise<void>;
  readonly log: (fields: object, text: string) => void;
}

export class FarUse {
  readonly #deps: FarUseDeps;
  /** By node. */
  readonly #toldMs = new Map<string, number>();

  constructor(deps: FarUseDeps) {
    this.#deps = deps;
  }

  /** Never rejects. */
  async tell(): Promise<void> {
    const { tell, log } = this.#deps;
    const nowMs = performance.now();
    const told = [...this.#inUse()].map(async ([nodeId, ids]) => {
      try {
        for (let from = 0; from < ids.length; from += maxUsedMachines)
          await tell(nodeId, ids.slice(from, from + maxUsedMachines));
        this.#toldMs.set(nodeId, nowMs);
      } catch (error) {
        log({ err: error, host: nodeId }, "another host was not told which of its machines are in use");
      }
    });
    await Promise.all(told);
  }

  /** Of machines of this host, by the door of another. */
  heard(machineIds: readonly string[]): void {
    const { table, loads } = this.#deps;
    const nowMs = performance.now();
    for (const id of machineIds) {
      const machine = table.machine(id);
      if (machine?.nodeId !== this.#deps.nodeId) continue;
      for (const { internalPort } of machine.services) loads.loadOf(id, internalPort).busyMs = nowMs;
    }
  }

  #inUse(): Map<string, string[]> {
    const { table, loads, nodeId } = this.#deps;
    const byNode = new Map<string, Set<string>>();
    for (const { machineId, load } of loads.loads()) {
      const machine = table.machine(machineId);
      if (machine === undefined || machine.nodeId === nodeId) continue;
      const sinceMs = this.#toldMs.get(machine.nodeId) ?? 0;
      if (load.active === 0 && load.busyMs <= sinceMs) continue;
      byNode.set(machine.nodeId, (byNode.get(machine.nodeId) ?? new Set()).add(machineId));
    }
    return new Map([...byNode].map(([node, ids]) => [node, [...ids]]));
  }
}
