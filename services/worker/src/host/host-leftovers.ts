/** VMMs of this node's run directory and its interfaces: how they are found on the host, and how they are ended. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { HearthError } from "@hearth/errors";

const run = promisify(execFile);
const goneLimitMs = 5_000;

export interface HostProcess {
  readonly pid: number;
  readonly startTime: string;
}

type MachineProcess = HostProcess & { readonly machineId: string };

/** VMMs by the run directory that their command line names, also those that only just enter their namespace. */
export const vmmProcesses = (runs: string): Promise<MachineProcess[]> =>
  processesOf(runs, /(^|\/)(qemu-system-|firecracker|nsenter$)/);

/** Guards, and VMMs that are not executed yet, in the same way. */
export const guardProcesses = (runs: string): Promise<MachineProcess[]> =>
  processesOf(runs, /(^|\/)(hearth-)?vm-guard$/);

async function processesOf(runs: string, wanted: RegExp): Promise<MachineProcess[]> {
  const found: MachineProcess[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const text = await readFile(`/proc/${name}/cmdline`, "latin1").catch(() => "");
    const [program = "", ...args] = text.split("\0");
    if (!wanted.test(program)) continue;
    // The path of a socket, alone or as the value of an option.
    const marker = `${runs}/`;
    const at = args.find((argument) => argument.startsWith(marker) || argument.includes(`=${marker}`));
    const startTime = await startTimeOf(Number(name));
    if (at === undefined || startTime === undefined) continue;
    const machineId = at.slice(at.indexOf(marker) + marker.length).split(/[/,]/)[0] ?? "";
    found.push({ pid: Number(name), startTime, machineId });
  }
  return found;
}

/** Field 22 of proc(5) stat; undefined when there is no such process. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19];
}

/** Ends a process for certain, and never another one that got its pid. */
export async function endProcess({ pid, startTime }: HostProcess): Promise<void> {
  const limit = Date.now() + goneLimitMs;
  while ((await startTimeOf(pid)) === startTime) {
    if (Date.now() > limit)
      throw new HearthError("internal", { message: `Process ${pid} did not end after SIGKILL.` });
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      return; // it ended between the look and the deed
    }
    await delay(5);
  }
}

/** It may have gone with its namespace. */
export async function removeInterface(name: string): Promise<void> {
  if (!existsSync(`/sys/class/net/${name}`)) return;
  await run("ip", ["link", "del", "dev", name], { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } });
}
