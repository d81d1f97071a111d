/**
 * Which machines this node may run now, and how those that it may not run go down. A machine with
 * `restart_elsewhere` needs the node's lease; one that was yielded belongs to another node. What is wanted of it
 * stays as it is, so it starts again when the right is back.
 */
import { setTimeout as delay } from "node:timers/promises";
import { canApply, nextState } from "@hearth/machine";
import { guardProcesses, vmmProcesses } from "../host/host-leftovers.ts";
import type { MovedMachines, NodeLeaseDeps } from "../host/node-lease.ts";
import type { RunEngine } from "../journal/run-engine.ts";
import type { RunParts } from "../runs/run-parts.ts";
import type { MachineRow } from "./machine-row.ts";
import type { Change } from "./machine-store.ts";

export const needsLease = ({ config }: MachineRow): boolean => config.restart_elsewhere === true;

export const isElsewhere = ({ placement }: MachineRow): boolean =>
  placement !== null && placement.role !== "here";

/** Whether a machine that may not run has anything to give up. */
export const hasToGo = (row: MachineRow, startsNow: boolean): boolean =>
  row.state === "started" || (row.state === "starting" && (row.handle !== null || startsNow));

export function gaveWay(row: MachineRow): Change | undefined {
  if (!canApply(row.state, "stop") || row.state === "suspended") return undefined;
  return {
    set: { state: nextState(row.state, "stop"), stop: needsLease(row) ? { force: true } : {} },
    events: [{ type: "stop", source: "flyd" }],
  };
}

export interface RightsDeps {
  readonly parts: RunParts;
  readonly engine: RunEngine;
  readonly wake: (machineId: string) => void;
  /** The region decided so of the machine; older decisions do not count any more. */
  readonly noteTerm: (machineId: string, term: number) => void;
}

const pollMs = 50;
const leaseKey = "lease";

/** What the node's lease asks of the machines that need it. */
export function leasedMachines(
  rights: RightsDeps,
): Pick<NodeLeaseDeps, "lapse" | "down" | "hadLease" | "gotLease" | "asks" | "forget"> {
  const { store } = rights.parts;
  return {
    lapse: () => lapseMachines(rights),
    down: (signal) => untilDown(rights, signal),
    hadLease: () => store.meta(leaseKey) !== undefined,
    gotLease: () => {
      if (store.meta(leaseKey) === undefined) store.setMeta(leaseKey, "held");
    },
    asks: () => askedMachines(rights),
    forget: (moved) => forgetMoved(rights, moved),
  };
}

/** The lease is over: the records say so at once, and VMMs are ended without waiting for their turn. */
function lapseMachines({ parts, engine, wake }: RightsDeps): void {
  for (const row of parts.store.all().filter(needsLease)) {
    const starts = engine.openRunOf(row.machineId)?.kind === "machine-start";
    if (hasToGo(row, starts)) parts.store.change(row.machineId, gaveWay);
    void parts.live
      .get(row.machineId)
      ?.kill()
      .catch((err: unknown) =>
        parts.logger.error({ err, machine_id: row.machineId }, "a VMM without a lease did not end"),
      );
    wake(row.machineId);
  }
}

/** Resolves when none of the machines that need the lease is on the host. @throws what `signal` says */
async function untilDown({ parts, engine }: RightsDeps, signal: AbortSignal): Promise<void> {
  for (;;) {
    const rows = parts.store.all().filter(needsLease);
    const ids = new Set<string>(rows.map(({ machineId }) => machineId));
    const busy = rows.some(
      (row) => row.handle !== null || engine.openRunOf(row.machineId)?.kind === "machine-start",
    );
    if (!busy) {
      const { runs } = parts.paths;
      const found = [...(await vmmProcesses(runs)), ...(await guardProcesses(runs))];
      if (!found.some(({ machineId }) => ids.has(machineId))) return;
    }
    await delay(pollMs, undefined, { signal });
  }
}

/** What the region has to answer for before any of them may start again. */
const askedMachines = ({ parts }: RightsDeps): string[] =>
  parts.store
    .all()
    .filter((row) => needsLease(row) && row.state !== "destroyed" && row.placement?.role !== "gone")
    .map(({ machineId }) => machineId);

/** Machines that another node has got: nothing of them stays here but their story. */
function forgetMoved({ parts, wake, noteTerm }: RightsDeps, moved: MovedMachines): void {
  for (const { machine_id, term } of moved) {
    const row = parts.store.find(machine_id);
    if (row === undefined || (row.placement?.term ?? 0) > term) continue;
    parts.store.change(row.machineId, (known) => gone(known, term));
    noteTerm(row.machineId, term);
    wake(row.machineId);
  }
}

export function gone(row: MachineRow, term: number): Change | undefined {
  const placement = { term, role: "gone" } as const;
  if (row.state === "destroyed") return row.placement?.role === "gone" ? undefined : { set: { placement } };
  const state = row.state === "destroying" ? row.state : nextState(row.state, "destroy");
  return { set: { placement, state, desired: "destroyed" } };
}
