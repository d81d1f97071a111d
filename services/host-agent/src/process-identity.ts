/**
 * Processes by pid and start time. A pid alone is soon another process's; with the start time (field 22 of
 * /proc/<pid>/stat, in ticks since boot) and the boot id it names one process for ever.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

/** Undefined when there is no such process, or when it has ended and waits to be reaped. */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command's name is in parentheses and may hold spaces and parentheses itself.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    const startTime = fields[19];
    if (startTime === undefined || (state === "Z" && isReapable(pid)) || state === "X") return undefined;
    return { pid, startTime: `${bootId()}:${startTime}` };
  } catch {
    return undefined;
  }
}

/** The first thread may be a zombie while others are still on their way out, with files and ports open. */
const isReapable = (pid: number): boolean => readdirSync(`/proc/${pid}/task`).length <= 1;

export const isAlive = ({ pid, startTime }: ProcessIdentity): boolean =>
  identify(pid)?.startTime === startTime;

/** Changes with each boot of the host. */
export const bootId = (): string => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

export interface FoundProcess extends ProcessIdentity {
  readonly args: readonly string[];
}

/** Processes whose arguments and environment (`NAME=value` texts) satisfy `matches`. */
export function findProcesses(
  matches: (args: readonly string[], environment: readonly string[]) => boolean,
): FoundProcess[] {
  return readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
      if (!matches(args, readFileSync(`/proc/${pid}/environ`, "utf8").split("\0"))) return [];
      const identity = identify(pid);
      return identity === undefined ? [] : [{ ...identity, args }];
    } catch {
      // It ended while it was looked at, or is none of ours to look at.
      return [];
    }
  });
}

/** Asks the processes to end, kills those that have not by the limit, and waits until all are gone. */
export async function endProcesses(processes: readonly ProcessIdentity[], limitMs: number): Promise<void> {
  const send = (signal: NodeJS.Signals) => {
    for (const one of processes.filter(isAlive)) signalProcess(one.pid, signal);
  };
  send("SIGTERM");
  if (await allGone(processes, limitMs)) return;
  send("SIGKILL");
  await allGone(processes, limitMs);
}

export async function allGone(processes: readonly ProcessIdentity[], limitMs: number): Promise<boolean> {
  const endMs = Date.now() + limitMs;
  while (processes.some(isAlive)) {
    if (Date.now() > endMs) return false;
    await delay(10);
  }
  return true;
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
