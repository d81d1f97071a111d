/**
 * What this node still takes, from its own tables and nothing else.
 *
 * Memory is never promised twice. Processors are, up to `cpuOvercommit`. A machine counts while it is wanted
 * running or its VM still is; a reservation counts until its deadline, or until its machine is there.
 */
import type { DatabaseSync } from "node:sqlite";
import { HearthError } from "@hearth/errors";
import { crashPoint } from "./crash-point.ts";
import type { MachineRow } from "./machine-row.ts";

export interface Shape {
  readonly cpus: number;
  readonly memory_mb: number;
}

/** How many virtual processors one processor of the node stands for. */
export const cpuOvercommit = 16;

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
  readonly #database: DatabaseSync;
  readonly #capacity: Shape;
  readonly #nowMs: () => number;

  constructor(database: DatabaseSync, capacity: Shape, nowMs: () => number) {
    this.#database = database;
    this.#capacity = capacity;
    this.#nowMs = nowMs;
  }

  /** @param except whose own share does not count */
  free(machines: readonly MachineRow[], except?: string): Shape {
    let { cpus, memory_mb } = this.#capacity;
    cpus *= cpuOvercommit;
    const counted = machines.filter((row) => row.machineId !== except && counts(row));
    const reserved = this.#reservations().filter(
      ({ machine_id }) => machine_id !== except && !counted.some((row) => row.machineId === machine_id),
    );
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

  reserve(machineId: string, { cpus, memory_mb }: Shape, expiresAtMs: number): void {
    crashPoint("reserve", "before");
    this.#database
      .prepare(
        "INSERT OR REPLACE INTO reservations (machine_id, cpus, memory_mb, expires_at_ms) VALUES (?, ?, ?, ?)",
      )
      .run(machineId, cpus, memory_mb, expiresAtMs);
  }

  settle(machineId: string): void {
    this.#database.prepare("DELETE FROM reservations WHERE machine_id = ?").run(machineId);
  }

  /** Forgets what has expired. */
  #reservations(): (Shape & { readonly machine_id: string })[] {
    this.#database.prepare("DELETE FROM reservations WHERE expires_at_ms <= ?").run(this.#nowMs());
    return this.#database
      .prepare("SELECT machine_id, cpus, memory_mb FROM reservations")
      .all()
      .map((row) => ({
        machine_id: String(row.machine_id),
        cpus: Number(row.cpus),
        memory_mb: Number(row.memory_mb),
      }));
  }
}
