import type { DatabaseSync } from "node:sqlite";
import { HearthError } from "@hearth/errors";
import { crashPoint } from "./crash-point.ts";

/** A thing on the host that somebody must take away again: a network slot, a disk, a process, an address. */
export interface Resource {
  readonly kind: string;
  /** Names the thing on this host, within its kind. */
  readonly key: string;
  /** The machine that it is of, or another owner that no machine has the name of. */
  readonly machineId: string;
}

/** What is on the host because of us. A row is written before the thing exists, and removed after it is gone. */
export class Ledger {
  readonly #database: DatabaseSync;
  readonly #nowMs: () => number;

  constructor(database: DatabaseSync, nowMs: () => number) {
    this.#database = database;
    this.#nowMs = nowMs;
  }

  /** Repeating a claim is fine; claiming what another machine holds is `conflict`. */
  claim(resource: Resource): void {
    crashPoint(`claim ${resource.kind}`, "before");
    this.#database
      .prepare("INSERT INTO resources VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(resource.kind, resource.key, resource.machineId, this.#nowMs());
    const row = this.#database
      .prepare("SELECT machine_id FROM resources WHERE kind = ? AND key = ?")
      .get(resource.kind, resource.key);
    if (row?.machine_id !== resource.machineId) {
      throw new HearthError("conflict", {
        message: `The ${resource.kind} ${resource.key} belongs to another machine; it was left alone.`,
        details: { kind: resource.kind, key: resource.key },
      });
    }
    crashPoint(`claim ${resource.kind}`, "after");
  }

  /** Says that the thing is gone. Only its owner can say so; repeating it is fine. */
  release(resource: Resource): void {
    crashPoint(`release ${resource.kind}`, "before");
    this.#database
      .prepare("DELETE FROM resources WHERE kind = ? AND key = ? AND machine_id = ?")
      .run(resource.kind, resource.key, resource.machineId);
    crashPoint(`release ${resource.kind}`, "after");
  }

  /** Makes the oldest thing of an owner another's; undefined when it has none. */
  take({ kind, from, to }: { kind: string; from: string; to: string }): string | undefined {
    crashPoint(`take ${kind}`, "before");
    const row = this.#database
      .prepare(
        `UPDATE resources SET machine_id = ? WHERE rowid =
           (SELECT rowid FROM resources WHERE kind = ? AND machine_id = ? ORDER BY rowid LIMIT 1) RETURNING key`,
      )
      .get(to, kind, from);
    crashPoint(`take ${kind}`, "after");
    return row === undefined ? undefined : String(row.key);
  }

  /** Makes a thing another owner's; false when it is not `from`'s. */
  hand({ kind, key, from, to }: { kind: string; key: string; from: string; to: string }): boolean {
    crashPoint(`hand ${kind}`, "before");
    const { changes } = this.#database
      .prepare("UPDATE resources SET machine_id = ? WHERE kind = ? AND key = ? AND machine_id = ?")
      .run(to, kind, key, from);
    crashPoint(`hand ${kind}`, "after");
    return changes === 1;
  }

  /** All that one machine holds, in the order in which it was claimed. */
  ofMachine(machineId: string): Resource[] {
    return this.#database
      .prepare("SELECT kind, key, machine_id FROM resources WHERE machine_id = ? ORDER BY rowid")
      .all(machineId)
      .map((row) => ({ kind: String(row.kind), key: String(row.key), machineId: String(row.machine_id) }));
  }
}
