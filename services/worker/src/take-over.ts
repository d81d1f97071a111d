/**
 * What a worker does before it takes work: it finds again what an earlier one left. A VM is believed to be ours
 * when the host has not restarted since and the process has the pid and the start time of the handle. What is
 * not there any more is recorded as ended.
 */
import { HearthError } from "@hearth/errors";
import type { MachineExit } from "@hearth/machine";
import { endProcess, vmmProcesses } from "./host/host-leftovers.ts";
import { crashPoint } from "./journal/crash-point.ts";
import type { RunEngine } from "./journal/run-engine.ts";
import type { MachineRow } from "./machines/machine-row.ts";
import type { RunParts } from "./runs/run-parts.ts";

export interface TakeOverDeps {
  readonly parts: RunParts;
  readonly engine: RunEngine;
  readonly bootId: string;
}

export const bootKey = "boot_id";

export async function takeOver({ parts, engine, bootId }: TakeOverDeps): Promise<void> {
  const { store, logger } = parts;
  const known = store.meta(bootKey);
  const sameBoot = known === undefined || known === bootId;
  if (!sameBoot) logger.warn("the host restarted; no virtual machine of before is believed");
  const rows = store.all();
  await endDoubles(parts, rows);
  crashPoint("take over strangers", "after");
  for (const row of rows) {
    const open = engine.openRunOf(row.machineId);
    const adopted = row.handle !== null && sameBoot && (await adopt(parts, row));
    crashPoint("take over machine", "after");
    if (adopted) {
      if (open === undefined && row.state === "started") parts.live.get(row.machineId)?.watch();
      continue;
    }
    // The steps of a start that are done are worth nothing without its VM, so it is begun anew.
    if (open?.kind === "machine-start" && (row.handle !== null || !sameBoot)) engine.cancel(open.runId);
    else if (row.handle !== null || (row.state === "started" && row.exit === null))
      lost(parts, row, sameBoot);
  }
  crashPoint("take over boot id", "before");
  store.setMeta(bootKey, bootId);
  crashPoint("take over boot id", "after");
}

async function adopt({ live, logger }: RunParts, row: MachineRow): Promise<boolean> {
  if (row.handle === null) return false;
  try {
    await live.make(row.machineId, row.boot ?? "").adopt(row.handle);
    logger.info({ machine_id: row.machineId, pid: row.handle.pid }, "adopted");
    return true;
  } catch (error) {
    await live.drop(row.machineId);
    if (!(error instanceof HearthError) || error.code !== "vmm_not_running")
      logger.error(
        { err: error, machine_id: row.machineId },
        "a virtual machine does not answer; it is ended",
      );
    // Never leave a process behind that nobody holds. Another boot's pid has another start time.
    if (row.handle.kind !== "sim") await endProcess(row.handle);
    return false;
  }
}

function lost({ store, clock }: RunParts, row: MachineRow, sameBoot: boolean): void {
  const exit: MachineExit = row.exit ?? {
    exitCode: -1,
    signal: 0,
    oomKilled: false,
    requestedStop: false,
    exitedAtMs: clock.nowMs(),
    error: sameBoot
      ? "The virtual machine ended while its worker was away."
      : "The host restarted and the virtual machine with it.",
  };
  // What was running when its host went down runs again, whatever its policy says of its own exits.
  if (!sameBoot && row.state === "started" && row.desired === "started")
    store.change(row.machineId, () => ({
      set: { exit, state: "starting", startAtMs: 0 },
    }));
  else store.note(row.machineId, { exit });
}

/**
 * A VM of a machine that its record does not name: its worker was killed between the start and the note of it. It
 * is ended before the machine is started again, as two would write to one disk. What is of no machine at all
 * waits for `OrphanSweep`.
 */
async function endDoubles({ paths, logger }: RunParts, rows: readonly MachineRow[]): Promise<void> {
  const handles = new Map(rows.map(({ machineId, handle }) => [machineId as string, handle]));
  for (const found of await vmmProcesses(paths.runs)) {
    const handle = handles.get(found.machineId);
    if (handle === undefined) continue;
    if (handle?.pid === found.pid && handle.startTime === found.startTime) continue;
    logger.warn({ ...found }, "a virtual machine that its record does not name was ended");
    await endProcess(found);
  }
}
