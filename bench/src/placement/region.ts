/** A region that is only facts: hosts and machines of plausible shapes, the same ones for the same numbers. */
import type { MachineFact, MachineRecord, NodeFact } from "@hearth/machine";

export interface RegionSize {
  readonly hosts: number;
  readonly machines: number;
}

const regions = ["ams", "fra", "iad", "sin"];
const zones = ["a", "b", "c"];
const machinesPerApp = 100;
const images = 200;
const memorySizes = [256, 512, 1024];
export const hostMemoryMb = 131_072;

/** Numbers from 0 to 1, by mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const pick = <T>(values: readonly T[], random: () => number): T =>
  values[Math.floor(random() * values.length)] as T;

export const nodeIdOf = (host: number): string => `n${String(host).padStart(5, "0")}`;
export const appOf = (machine: number): string => `app-${Math.floor(machine / machinesPerApp)}`;
export const appsOf = ({ machines }: RegionSize): number => Math.max(1, Math.ceil(machines / machinesPerApp));
export const imageOf = (number: number): string => `registry.example/team/app-${number % images}:2026-11`;
export const machineIdOf = (machine: number): string => machine.toString(16).padStart(14, "0");
const hostOf = (machine: number, { hosts }: RegionSize): number => (machine * 7919) % hosts;
const memoryOf = (machine: number): number => memorySizes[machine % memorySizes.length] ?? 256;

export function nodeFact(host: number, size: RegionSize, usedMb: number): NodeFact {
  const free_memory_mb = Math.max(0, hostMemoryMb - usedMb);
  return {
    node_id: nodeIdOf(host),
    region: regions[host % regions.length] as string,
    version: "0.1.0",
    accelerator: "kvm",
    total_cpus: 64,
    total_memory_mb: hostMemoryMb,
    free_memory_mb,
    free_cpus: 64 * 16 - Math.ceil(size.machines / size.hosts),
    cpu_overcommit: 16,
    labels: { zone: zones[host % zones.length] as string, disk: host % 10 === 0 ? "nvme" : "ssd" },
    images: [0, 1, 2].map((offset) => imageOf(host * 3 + offset)).sort(),
    machines: Math.round(size.machines / size.hosts),
    warnings: ["Virtual machine monitors run as the worker's own user, without a cgroup of their own."],
    published_at_ms: 1_800_000_000_000,
  };
}

/** What the machines of each host use together. */
export function usedMemory(size: RegionSize): Uint32Array {
  const used = new Uint32Array(size.hosts);
  for (let machine = 0; machine < size.machines; machine += 1) {
    const host = hostOf(machine, size);
    used[host] = (used[host] ?? 0) + memoryOf(machine);
  }
  return used;
}

export function machineFact(machine: number, size: RegionSize): MachineFact {
  const host = hostOf(machine, size);
  return factOn(nodeIdOf(host), machine, appOf(machine), memoryOf(machine), imageOf(machine));
}

/** About as long as the fact of a real machine that has been started and stopped a few times. */
export function factOn(
  node_id: string,
  machine: number,
  app: string,
  memory_mb: number,
  image: string,
): MachineFact {
  const id = machineIdOf(machine);
  const instance = `01K${String(machine).padStart(23, "0")}`;
  const at = "2026-11-20T10:00:00.000Z";
  const event = (type: string, number: number) => ({
    ...{ id: `${instance.slice(0, 25)}${number}`, type, status: "started", source: "user" },
    timestamp: 1_800_000_000_000 + number,
  });
  const record = {
    ...{ id, name: `quiet-river-${machine}`, state: "started", region: "ams", instance_id: instance },
    ...{ version: instance, private_ip: `fd12:3456:789a:1:0:7:${machine.toString(16).slice(-4)}:1` },
    ...{ created_at: at, updated_at: at, incomplete_config: null, host_status: "ok", cordoned: false },
    image_ref: {
      ...{ registry: "registry.example", repository: "team/app", tag: "2026-11", labels: {} },
      digest: `sha256:${id.repeat(5).slice(0, 64)}`,
    },
    config: {
      image,
      env: { PORT: "8080", LOG_LEVEL: "info", DATABASE_HOST: `db.${app}.internal` },
      guest: { cpu_kind: "shared", cpus: 1, memory_mb },
      restart: { policy: "on-failure", max_retries: 10 },
      checks: { up: { type: "http", port: 8080, path: "/up", interval: "10s", timeout: "2s" } },
    },
    events: [event("start", 3), event("stop", 2), event("start", 1), event("launch", 0)],
    checks: [{ name: "up", status: "passing", output: "200 OK", updated_at: at }],
  } as unknown as MachineRecord;
  return { node_id, app, revision: 4, record, egress_ip: "172.20.0.2" };
}
