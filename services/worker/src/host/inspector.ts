/** Reads the record, the ledger and the host at one time, and says where they differ. Changes nothing. */
import type { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import type { Difference, Inspection } from "@hearth/machine";
import type { SlotPlan } from "@hearth/network";
import { type MachineRow, rowOf } from "../machines/machine-row.ts";
import type { RunParts } from "../runs/run-parts.ts";
import { heldSlotPlan } from "../slots/slot-identity.ts";
import { readHostInventory } from "./host-inventory.ts";
import type { HostPaths } from "./host-paths.ts";
import { inspectMachines } from "./inspect-machines.ts";

export interface InspectorDeps {
  readonly database: DatabaseSync;
  readonly nodeId: string;
  readonly paths: HostPaths;
  readonly slotPlan: (row: MachineRow, slot: string) => SlotPlan;
  readonly nowMs: () => number;
}

/** What changes between the reads of one look is not a difference, so one counts when a second look has it too. */
const secondLookMs = 300;

/** @throws HearthError `host_requirement_missing`, `internal` when the host cannot be looked at */
export async function inspectHost(deps: InspectorDeps): Promise<Inspection> {
  const first = await look(deps);
  if (first.differences.length === 0) return first;
  await delay(secondLookMs);
  const second = await look(deps);
  const before = new Set(first.differences.map(identity));
  return { ...second, differences: second.differences.filter((one) => before.has(identity(one))) };
}

export function inspectNode(parts: RunParts, database: DatabaseSync): Promise<Inspection> {
  return inspectHost({
    database,
    nodeId: parts.config.node_id,
    paths: parts.paths,
    slotPlan: (row, slot) => heldSlotPlan(parts.identity, row, slot),
    nowMs: () => parts.clock.nowMs(),
  });
}

const identity = ({ kind, key, problem }: Difference): string => `${kind} ${key} ${problem}`;

/** One look: what it finds may be passing. */
export async function look({ database, nodeId, paths, slotPlan, nowMs }: InspectorDeps): Promise<Inspection> {
  const host = await readHostInventory(nodeId, paths);
  // After the host, and in one turn of the event loop: what is made meanwhile is in the ledger before it is there.
  const all = (sql: string) => database.prepare(sql).all();
  const rows = all("SELECT * FROM machines ORDER BY created_ms, rowid").map(rowOf);
  const differences = inspectMachines({
    nodeId,
    rows,
    resources: all("SELECT kind, key, machine_id FROM resources").map((row) => ({
      kind: String(row.kind),
      key: String(row.key),
      machineId: String(row.machine_id),
    })),
    openRuns: new Set(
      all("SELECT machine_id FROM runs WHERE state IN ('running', 'undoing')").map((row) =>
        String(row.machine_id),
      ),
    ),
    reservations: all("SELECT machine_id, expires_at_ms FROM reservations").map((row) => ({
      machineId: String(row.machine_id),
      expiresAtMs: Number(row.expires_at_ms),
    })),
    nowMs: nowMs(),
    paths,
    slotPlan,
    host,
  });
  return { node_id: nodeId, machines: rows.filter(({ state }) => state !== "destroyed").length, differences };
}
