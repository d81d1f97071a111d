/**
 * Compares what clients were told with what every API says, what every worker has on its disk, and which virtual
 * machines run. A worker's disk is read as it is, so no service can talk its way out.
 */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { isSettled, type MachineState } from "@hearth/machine";
import type { FleetHost, RunningFleet } from "@hearth/testkit";
import { type FleetClients, type FleetMachine, machinesPath } from "./fleet-clients.ts";

/** A sentence each; by machine, so that one machine counts once. */
export interface Verdict {
  readonly double: ReadonlyMap<string, string>;
  readonly lost: ReadonlyMap<string, string>;
  readonly stuck: ReadonlyMap<string, string>;
}

interface Listed {
  readonly id: string;
  readonly name: string;
  readonly state: MachineState;
  readonly host_status: string;
}

const callLimitMs = 20_000;
const watchMs = 500;

export async function judge(fleet: RunningFleet, { machines }: FleetClients): Promise<Verdict> {
  const [double, lost, stuck] = [0, 0, 0].map(() => new Map<string, string>()) as [Found, Found, Found];
  const onDisk = heldBy(fleet.hosts);
  for (const [id, hosts] of onDisk)
    if (hosts.length > 1) double.set(id, `${hosts.join(" and ")} have the machine ${id}`);
  for (const [id, hosts] of runningOn(fleet.hosts))
    if (hosts.length > 1) double.set(id, `${hosts.join(" and ")} run the machine ${id}`);
  for (const api of fleet.region.apis) {
    const { status, body } = await fleet.region.call(api, "GET", machinesPath, { limitMs: callLimitMs });
    if (status !== 200) throw new Error(`${api.name} does not list: ${status} ${JSON.stringify(body)}`);
    const list = (body as Listed[]).filter(({ state }) => state !== "destroyed");
    for (const machine of machines) {
      const found = list.filter(({ name, id }) => name === machine.name || id === machine.id);
      const why = lostOf(machine, found, onDisk);
      if (why !== undefined) lost.set(machine.name, `${api.port}: ${machine.id ?? machine.name} ${why}`);
      if (new Set(found.map(({ id }) => id)).size > 1)
        double.set(machine.name, `${api.port}: ${found.map(({ id }) => id).join(" and ")} are one request`);
      for (const one of found) {
        const off = stuckOf(machine, one);
        if (off !== undefined) stuck.set(one.id, `${api.port}: ${one.id} ${off}`);
      }
    }
  }
  return { double, lost, stuck };
}

type Found = Map<string, string>;
type Holders = ReadonlyMap<string, readonly string[]>;

function lostOf({ id, state }: FleetMachine, found: readonly Listed[], held: Holders): string | undefined {
  if (id === undefined || state === "doubt") return undefined;
  const times = found.filter((one) => one.id === id).length;
  if (state === "gone") {
    if (times > 0) return `was destroyed and is ${found[0]?.state}`;
    return held.has(id) ? `was destroyed and is on the disk of ${held.get(id)?.join()}` : undefined;
  }
  if (times !== 1) return `was created and is listed ${times} times`;
  return held.has(id) ? undefined : "was created and no worker has it";
}

function stuckOf({ wanted, state: known }: FleetMachine, { state, host_status }: Listed): string | undefined {
  if (host_status !== "ok") return `is on a host that is ${host_status}`;
  if (!isSettled(state)) return `is ${state}`;
  if (wanted === undefined || known !== "there") return undefined;
  if ((state === "started") === (wanted === "started") && state !== "failed") return undefined;
  return `is ${state}, and was told to be ${wanted === "started" ? "started" : "at rest"}`;
}

/** Machines that workers have and that are not destroyed, with the hosts. */
function heldBy(hosts: readonly FleetHost[]): Holders {
  const held = new Map<string, string[]>();
  for (const { files, port } of hosts) {
    const database = new DatabaseSync(join(files.dataDir, "worker/worker.db"), { readOnly: true });
    try {
      const rows = database.prepare("SELECT machine_id FROM machines WHERE state != 'destroyed'").all();
      for (const { machine_id: id } of rows) held.set(String(id), [...(held.get(String(id)) ?? []), port]);
    } finally {
      database.close();
    }
  }
  return held;
}

const runDirectory = /\/m\/([0-9a-f]{14})\//;

/** Machines whose virtual machine runs, with the hosts; a host comes twice when it runs it twice. */
export function runningOn(hosts: readonly FleetHost[]): Holders {
  const running = new Map<string, string[]>();
  for (const host of hosts)
    for (const { args } of host.processes()) {
      if (!args[0]?.includes("qemu-system")) continue;
      const id = runDirectory.exec(args.join(" "))?.[1];
      if (id !== undefined) running.set(id, [...(running.get(id) ?? []), host.port]);
    }
  return running;
}

/** Looks again and again which virtual machines run, also while hosts are cut off; what runs twice is remembered. */
export class DoubleWatch implements AsyncDisposable {
  readonly found = new Map<string, string>();
  /** So that a drill in which nothing ever ran is not taken for one in which nothing ran twice. */
  readonly seen = new Set<string>();
  readonly #stopping = new AbortController();
  readonly #looking: Promise<void>;

  constructor(hosts: readonly FleetHost[]) {
    this.#looking = this.#watch(hosts);
  }

  async #watch(hosts: readonly FleetHost[]): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const running = runningOn(hosts);
      for (const [id, on] of running) {
        this.seen.add(id);
        // Hosts are looked at one after another: one that ended meanwhile is gone at the second look.
        const again = on.length > 1 ? (runningOn(hosts).get(id) ?? []) : on;
        if (again.length > 1) this.found.set(id, `${again.join(" and ")} ran the machine ${id} at once`);
      }
      await delay(watchMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#looking;
  }
}
