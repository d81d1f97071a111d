/**
 * The guards of this node's VMMs. A guard ends with its VMM; it is looked after here all the same, because one that
 * somebody killed is missed only when it is needed.
 */
import { execFile } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { defaultLease } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { VmmGuard } from "@hearth/vmm";
import { needsLease } from "../machines/machine-rights.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import type { RunParts } from "../runs/run-parts.ts";
import { endProcess, guardProcesses } from "./host-leftovers.ts";

const run = promisify(execFile);
const attachLimitMs = 5_000;
const endLimitMs = 2_000;
const endPollMs = 10;

/** @throws HearthError `host_requirement_missing` when the machine needs a guard and this host has none */
export function guardOf({ config, paths }: RunParts, row: MachineRow): VmmGuard | undefined {
  if (!needsLease(row)) return undefined;
  const program = config.assets.guard;
  if (program === undefined)
    throw new HearthError("host_requirement_missing", {
      message: "This node has no vm-guard, without which no machine with restart_elsewhere is started.",
    });
  const { margin_ms } = config.lease ?? defaultLease;
  return { program, leasePath: paths.lease, graceMs: Math.floor(margin_ms / 2) };
}

/** Gives a new guard to each machine that has lost its own. */
export async function restoreGuards({ store, paths, logger }: RunParts): Promise<void> {
  const guards = await guardProcesses(paths.runs);
  for (const { machineId, handle } of store.all()) {
    const guard = handle?.spec.guard;
    if (handle === null || guard === undefined) continue;
    if (guards.some((one) => one.machineId === machineId)) continue;
    const { leasePath, graceMs, program } = guard;
    const words = [leasePath, graceMs, handle.pid, handle.startTime, handle.spec.runDir].map(String);
    try {
      await run(program, ["attach", ...words], { timeout: attachLimitMs });
      logger.warn({ machine_id: machineId }, "the guard of a machine was gone and is there again");
    } catch (error) {
      logger.error({ err: error, machine_id: machineId }, "a machine has no guard");
    }
  }
}

/** Its VMM is gone, and the guard sees that at once; one that does not is ended. */
export async function endGuards(runs: string, machineId: string): Promise<void> {
  const limit = Date.now() + endLimitMs;
  for (;;) {
    const left = (await guardProcesses(runs)).filter((one) => one.machineId === machineId);
    if (left.length === 0) return;
    if (Date.now() > limit) {
      for (const guard of left) await endProcess(guard);
      return;
    }
    await delay(endPollMs);
  }
}
