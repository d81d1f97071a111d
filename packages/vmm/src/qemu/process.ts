/** What /proc says about a VMM's process: whether it is still the same one, and what it uses. */
import { readFileSync } from "node:fs";
import type { VmmStats } from "../port.ts";

/** Linux reports times to user space in this unit on every architecture (USER_HZ). */
const msPerTick = 10;
const pageBytes = 4096;

/** The fields of /proc/<pid>/stat from the third on; null when there is no such process, or a dead one. */
function statFields(pid: number): string[] | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return null;
  }
  // The second field is the program's name in parentheses and may hold blanks and parentheses itself.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? null : fields;
}

export function processStartTime(pid: number): string | null {
  return statFields(pid)?.[19] ?? null;
}

export function isSameProcess(pid: number, startTime: string): boolean {
  return processStartTime(pid) === startTime;
}

export function processStats(pid: number): VmmStats | null {
  const fields = statFields(pid);
  if (fields === null) return null;
  const ticks = Number(fields[11]) + Number(fields[12]);
  return { cpuTimeMs: ticks * msPerTick, residentBytes: Number(fields[21]) * pageBytes };
}

/** Sends SIGKILL, but never to a stranger who got the pid. */
export function killProcess(pid: number, startTime: string): void {
  if (!isSameProcess(pid, startTime)) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
