/**
 * What this node still takes, from its own tables and nothing else.
 *
 * Memory is never promised twice. Processors are, up to the node's ratio. A machine counts while it is wanted
 * running or its VM still is; a reservation counts until its deadline, or until its machine is there.
 */
import type { DatabaseSync } from "node:sqlite";
import { HearthError } from "@hearth/errors";
import type { MachineRow } from "./machine-row.ts";
import { Reservations, type Shape } from "./reservations.ts";

/** How many virtual processors one processor of the node stands for, unless its config says otherwise. */
export const defaultCpuOvercommit = 16;

export interface Capacity extends Shape {
  readonly cpu_overcommit?: number | undefined;
}

/** A machine that may go back to another version needs room for the larger of the two. */
function shapeOf({ config, rollback }: MachineRow): Shape {
  const before = rollback?.kind === "to" && rollback.ran ? rollback.config.guest : config.guest;
  return {
    cpus: Math.max(config.guest.cpus, before.cpus),
    memory_mb: Math.max(config.guest.memory_mb, before.memory_mb),
  };
}

const counts = (row: MachineRow): boolean =>
  row.handle !== null || (row.desired === "started" && row.state !== "failed");

export class Admission {
  readonly #capacity: Capacity;
  readonly reservations: Reservations;

  constructor(database: DatabaseSync, capacity: Capacity, nowMs: () => number) {
    this.#capacity = capacity;
    this.reservations = new Reservations(database, nowMs);
  }

  get cpuOvercommit(): number {
    return this.#capacity.cpu_overcommit ?? defaultCpuOvercommit;
  }

  /** @param except whose own share does not count */
  free(machines: readonly MachineRow[], except?: string): Shape {
    let { cpus, memory_mb } = this.#capacity;
    cpus *= this.cpuOvercommit;
    const counted = machines.filter((row) => row.machineId !== except && counts(row));
    const reserved = this.reservations
      .held()
      .filter(({ machineId }) => machineId !== except && !counted.some((row) => row.machineId === machineId));
    for (const used of [...counted.map(shapeOf), ...reserved]) {
      cpus -= used.cpus;
      memory_mb -= used.memory_mb;
    }
    return { cpus, memory_mb };
  }

  /** @throws HearthError `insufficient_capacity`, with what is free in its details */
  admit(machines: readonly MachineRow[], machineId: string, wanted: Shape): void {
    const free = this.free(machines, machineId);
    if (wanted.memory_mb <= free.memory_mb && wanted.cpus <= free.cpus) return;
    const lack = wanted.memory_mb > free.memory_mb ? "memory" : "processors";
    throw new HearthError("insufficient_capacity", {
      message: `The node has not enough ${lack} left: ${Math.max(0, free.memory_mb)} MB and ${Math.max(0, free.cpus)} virtual processors are free; stop a machine or ask for less.`,
      details: { free_memory_mb: Math.max(0, free.memory_mb), free_cpus: Math.max(0, free.cpus), ...wanted },
    });
  }

  /** What is held now, for machines that are not there yet. */
  reserved(): Shape {
    let [cpus, memory_mb] = [0, 0];
    for (const held of this.reservations.held()) {
      cpus += held.cpus;
      memory_mb += held.memory_mb;
    }
    return { cpus, memory_mb };
  }
}
