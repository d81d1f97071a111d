/**
 * The health checks of a machine in its record. Pure.
 *
 * A check fails as `warning` while the machine's program is given its grace, and as `critical` from then on.
 * What has no result yet, because nothing was tried or the machine is not started, is a `warning` as well: a
 * client that waits for all checks to pass must not take an empty list, or an old result, for that.
 */
import { type CheckSpec, checkSpecs, type MachineCheck } from "@hearth/machine";
import type { CheckResult, MachineRow } from "../machines/machine-row.ts";
import type { Change } from "../machines/machine-store.ts";

/** What one probe saw. */
export interface Seen {
  readonly passing: boolean;
  /** Printable and short. */
  readonly output: string;
}

export const maxCheckOutput = 500;
/** A text that changes with every probe is told of this often, a status at once. */
export const textEveryMs = 30_000;
/** While a program is given its grace, it is looked at often, so that it counts as soon as it is up. */
const graceIntervalMs = 1_000;

/** A record of before may hold a check that is refused today; such a machine runs without checks. */
export function specsOf(row: Pick<MachineRow, "config">): CheckSpec[] {
  try {
    return checkSpecs(row.config);
  } catch {
    return [];
  }
}

export function checksOf(row: MachineRow): MachineCheck[] {
  const started = row.state === "started";
  const unknown: CheckResult = {
    status: "warning",
    output: started ? "There is no result yet." : "The machine is not started.",
    updatedMs: (started ? row.startedMs : null) ?? row.updatedMs,
  };
  return specsOf(row).map(({ name }) => {
    const { status, output, updatedMs } = (started ? row.checks?.[name] : undefined) ?? unknown;
    return { name, status, output, updated_at: new Date(updatedMs).toISOString() };
  });
}

export function judge(spec: CheckSpec, seen: Seen, sinceStartMs: number): MachineCheck["status"] {
  if (seen.passing) return "passing";
  return sinceStartMs < spec.graceMs ? "warning" : "critical";
}

export function pauseMs(spec: CheckSpec, seen: Seen, sinceStartMs: number): number {
  if (seen.passing || sinceStartMs >= spec.graceMs) return spec.intervalMs;
  return Math.min(spec.intervalMs, graceIntervalMs);
}

/** @param boot the life of the VM that was probed; undefined when it is not the record's any more or says nothing new */
export function checkSeen(
  row: MachineRow,
  boot: string,
  spec: CheckSpec,
  seen: Seen,
  nowMs: number,
): Change | undefined {
  if (row.state !== "started" || row.boot !== boot) return undefined;
  const status = judge(spec, seen, nowMs - (row.startedMs ?? 0));
  const known = row.checks?.[spec.name];
  if (known?.status === status) {
    if (known.output === seen.output) return undefined;
    const ageMs = nowMs - known.updatedMs;
    if (ageMs >= 0 && ageMs < textEveryMs) return undefined;
  }
  return {
    set: { checks: { ...row.checks, [spec.name]: { status, output: seen.output, updatedMs: nowMs } } },
  };
}
