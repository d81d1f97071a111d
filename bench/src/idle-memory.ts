/**
 * What a node costs before anybody uses it: resident memory of each service and of the guest agent, beside that of
 * an empty Node process and of nats-server, which are what there is to compare with.
 *
 * All values are MB of 1,000,000 bytes, of VmRSS in /proc/<pid>/status: pages that processes share, such as those of
 * the node executable, are counted for each. A service is read `settleMs` after the node was ready, and again with a
 * machine running. `runs` is how many platforms are started; the values are medians.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { demoImage, importDemo, type Platform, startPlatform } from "@hearth/testkit";
import { medianOf } from "./median.ts";

const services = ["host-agent", "images", "dns", "worker", "regional", "ssh"] as const;
const settleMs = 15_000;

/** Of text in the form of /proc/<pid>/status, in MB. */
const residentMb = (status: string): number =>
  (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;

const ofProcess = (pid: number): number => residentMb(readFileSync(`/proc/${pid}/status`, "utf8"));

async function emptyNode(): Promise<number> {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6); console.log(1)"]);
  try {
    await new Promise((resolve, reject) => child.once("error", reject).stdout.once("data", resolve));
    return ofProcess(child.pid ?? 0);
  } finally {
    child.kill();
  }
}

function ofServices(platform: Platform): Record<string, number> {
  const named = [
    ...services.map((name) => [name, `services/${name}`] as const),
    ["nats-server", "nats-server"],
  ];
  return Object.fromEntries(
    named.map(([name = "", text = ""]) => {
      const [pid] = platform.pids(text);
      if (pid === undefined) throw new Error(`${name} does not run`);
      return [name, ofProcess(pid)];
    }),
  );
}

interface Sample {
  readonly idle: Record<string, number>;
  readonly busy: Record<string, number>;
  readonly node: number;
  readonly agent: number;
}

async function sample(): Promise<Sample> {
  const platform = await startPlatform();
  try {
    await delay(settleMs);
    const idle = ofServices(platform);
    await importDemo(platform);
    const machine = await platform.hearth(["run", "-d", "--name", "idle", demoImage]);
    if (machine.code !== 0) throw new Error(machine.stderr);
    await delay(settleMs);
    const status = await platform.hearth(["exec", "idle", "--", "cat", "/proc/1/status"]);
    return { idle, busy: ofServices(platform), node: await emptyNode(), agent: residentMb(status.stdout) };
  } finally {
    await platform.down();
  }
}

export async function measureIdleMemory(runs: number): Promise<Record<string, unknown>> {
  const samples: Sample[] = [];
  for (let turn = 0; turn < runs; turn += 1) samples.push(await sample());
  const medians = (of: (one: Sample) => Record<string, number>) =>
    Object.fromEntries(
      Object.keys(of(samples[0] as Sample)).map((name) => [
        name,
        medianOf(samples.map((one) => of(one)[name] ?? 0)),
      ]),
    );
  return {
    runs,
    idle_mb: medians(({ idle }) => idle),
    with_a_machine_mb: medians(({ busy }) => busy),
    empty_node_mb: medianOf(samples.map(({ node }) => node)),
    guest_agent_mb: medianOf(samples.map(({ agent }) => agent)),
  };
}
