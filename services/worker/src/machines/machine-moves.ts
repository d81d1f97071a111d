/**
 * What the region tells a worker of a machine's place. Each decision has a term, and none counts after a newer one:
 * a message that was long under way must not bring back a machine that has gone on.
 */
import type { DatabaseSync } from "node:sqlite";
import { HearthError } from "@hearth/errors";
import type { MachineAnswer, WorkerRequest } from "@hearth/machine";
import { existing } from "./machine-leases.ts";
import { gaveWay, gone, hasToGo } from "./machine-rights.ts";
import type { MachineRow } from "./machine-row.ts";
import type { MachineStore } from "./machine-store.ts";

export interface MachineMovesDeps {
  readonly database: DatabaseSync;
  readonly store: MachineStore;
  readonly answer: (row: MachineRow) => MachineAnswer;
  /** @throws HearthError `lease_held` while somebody holds the machine */
  readonly checkLease: (row: MachineRow) => void;
}

export class MachineMoves {
  readonly #deps: MachineMovesDeps;

  constructor(deps: MachineMovesDeps) {
    this.#deps = deps;
  }

  /**
   * Makes room for a machine that comes here. Call inside the transaction that inserts it.
   * @throws HearthError `conflict` for an old decision, `unavailable` while an earlier life of it is being taken off
   */
  admit(known: MachineRow | undefined, machineId: string, term: number): void {
    if (term <= this.#newest(machineId)) throw stale(machineId, term);
    if (known !== undefined) {
      if (known.state !== "destroyed")
        throw known.placement?.role === "gone"
          ? new HearthError("unavailable", {
              message: "The machine was here before and is still being taken off; try again in a moment.",
            })
          : new HearthError("conflict", { message: "There is a machine of this id here already." });
      this.#deps.store.drop(known.machineId);
    }
    this.#note(machineId, term);
  }

  /** @throws HearthError `lease_held`, `machine_not_found`, `conflict` for an old decision */
  yield({ machine_id, placement_term: term }: WorkerRequest<"yield">): MachineAnswer {
    const { store, checkLease, answer } = this.#deps;
    const row = store.change(machine_id, (row) => {
      const known = living(row);
      if (known.placement?.role === "yielded" && known.placement.term === term) return undefined;
      checkLease(known);
      this.#take(machine_id, term);
      const placement = { term, role: "yielded" } as const;
      if (!hasToGo(known, true)) return { set: { placement } };
      const { set, events } = gaveWay(known) ?? { set: {} };
      return { set: { ...set, placement, stop: {} }, ...(events && { events }) };
    });
    return answer(row);
  }

  /** @throws HearthError `machine_not_found`, `conflict` for an old decision */
  keep({ machine_id, placement_term: term }: WorkerRequest<"keep">): MachineAnswer {
    const { store, answer } = this.#deps;
    const row = store.change(machine_id, (row) => {
      const known = living(row);
      if (known.placement?.role === "here" && known.placement.term === term) return undefined;
      this.#take(machine_id, term);
      return { set: { placement: { term, role: "here" } } };
    });
    return answer(row);
  }

  /** What is not here is forgotten. @throws HearthError `conflict` for an old decision */
  forget({ machine_id, placement_term: term }: WorkerRequest<"forget">): { readonly ok: true } {
    const { store } = this.#deps;
    if (store.find(machine_id) === undefined) return { ok: true };
    store.change(machine_id, (known) => {
      if (known.placement?.role === "gone") return undefined;
      this.#take(machine_id, term);
      return gone(known, term);
    });
    return { ok: true };
  }

  #take(machineId: string, term: number): void {
    if (term < this.#newest(machineId)) throw stale(machineId, term);
    this.#note(machineId, term);
  }

  #newest(machineId: string): number {
    const row = this.#deps.database
      .prepare("SELECT term FROM placement_terms WHERE machine_id = ?")
      .get(machineId);
    return Number(row?.term ?? 0);
  }

  noted(machineId: string, term: number): void {
    this.#note(machineId, term);
  }

  #note(machineId: string, term: number): void {
    this.#deps.database
      .prepare(
        "INSERT INTO placement_terms VALUES (?, ?) ON CONFLICT DO UPDATE SET term = MAX(term, excluded.term)",
      )
      .run(machineId, term);
  }
}

function living(row: MachineRow): MachineRow {
  if (row.state !== "destroying") return existing(row);
  throw new HearthError("machine_not_found", { message: "machine not found; it is being destroyed." });
}

const stale = (machineId: string, term: number): HearthError =>
  new HearthError("conflict", {
    message: "The region has decided anew where this machine belongs; this decision is an old one.",
    details: { machine_id: machineId, placement_term: term },
  });
