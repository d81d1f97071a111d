/**
 * A fleet of three hosts with two APIs under partitions of every shape, kills, stalls and the loss of a host, while clients
 * create, start, stop and destroy machines through both APIs. When all has healed, what was acknowledged must be so,
 * no machine may be in two places, and none may be left on its way. No virtual machine may run twice at any time.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { demoImage, type RunningFleet, repositoryRoot, startFleet, until } from "@hearth/testkit";
import { seeded } from "@hearth/worker";
import { drillApp, FleetClients } from "./fleet-clients.ts";
import { DoubleWatch, judge, type Verdict } from "./fleet-verdict.ts";
import { befall, describeFault } from "./partition-faults.ts";
import { type FaultKind, planFaults } from "./partition-plan.ts";

export interface PartitionOptions {
  readonly seed: number;
  /** Of faults, with the rests between them; healing and settling come on top. */
  readonly seconds: number;
  /** These and no others, once each. */
  readonly kinds?: readonly FaultKind[];
  /** Of one fault, at most. */
  readonly longestHoldMs?: number;
  readonly clients?: number;
  readonly mostReal?: number;
  readonly onProgress?: (line: string) => void;
}

export interface PartitionResult {
  readonly double_placements: number;
  readonly lost_acknowledgements: number;
  readonly stuck: number;
  readonly seed: number;
  readonly acknowledged: FleetClients["acknowledged"];
  readonly refused: number;
  /** Times that an API said of a machine that is there that it is not. */
  readonly denied: number;
  readonly faults: readonly string[];
  /** Machines whose virtual machine ran at some time. */
  readonly ran: number;
  readonly dropped_packets: number;
  readonly settled_after_ms: number;
  /** What is wrong, a sentence each. */
  readonly found: readonly string[];
}

const shape = { hosts: 3, apis: 2, buses: 3 } as const;
const settleLimitMs = 180_000;
const firstLimitMs = 120_000;

export async function runPartition(options: PartitionOptions): Promise<PartitionResult> {
  await using fleet = await startPartitionFleet(options.onProgress);
  return await partitionFleet(fleet, options);
}

/** A fleet of the drill's shape, with the image and the app of its clients. */
export async function startPartitionFleet(onStep?: (line: string) => void): Promise<RunningFleet> {
  const fleet = await startFleet({ ...shape, ...(onStep === undefined ? {} : { onStep }) });
  try {
    await prepare(fleet);
    return fleet;
  } catch (error) {
    await fleet[Symbol.asyncDispose]();
    throw error;
  }
}

export async function partitionFleet(
  fleet: RunningFleet,
  options: PartitionOptions,
): Promise<PartitionResult> {
  const say = options.onProgress ?? (() => undefined);
  const faults = planFaults(seeded(options.seed), { ...shape, ...planOf(options) });
  // Of their own, so that how much they do has no say in what befalls the fleet.
  const random = seeded(options.seed + 1);
  const clients = new FleetClients(fleet, random, demoImage, options.mostReal ?? 3);
  await using watch = new DoubleWatch(fleet.hosts);
  let dropped = 0;
  clients.run(options.clients ?? 4);
  try {
    const { acknowledged } = clients;
    await until("a first machine", firstLimitMs, async () =>
      acknowledged.created > 0 && watch.seen.size > 0 ? true : undefined,
    );
    for (const fault of faults) {
      say(`${describeFault(fault)}; ${JSON.stringify(acknowledged)}, ${watch.found.size} ran twice`);
      await befall(fleet, fault, (packets) => {
        dropped += packets;
      });
    }
  } finally {
    await clients.stop();
  }
  say("healed; waiting until the region has settled");
  const healedMs = Date.now();
  await fleet.region.settled(settleLimitMs).catch((error: unknown) => say(HearthError.from(error).message));
  const verdict = await lastVerdict(fleet, clients, healedMs + settleLimitMs);
  for (const [what, times] of Object.entries(clients.refused)) say(`refused ${times} times: ${what}`);
  for (const what of clients.denied.slice(0, 20)) say(`said not to be there: ${what}`);
  const double = new Map([...verdict.double, ...watch.found]);
  return {
    double_placements: double.size,
    lost_acknowledgements: verdict.lost.size,
    stuck: verdict.stuck.size,
    seed: options.seed,
    acknowledged: clients.acknowledged,
    refused: Object.values(clients.refused).reduce((sum, many) => sum + many, 0),
    denied: clients.denied.length,
    faults: faults.map(describeFault),
    ran: watch.seen.size,
    dropped_packets: dropped,
    settled_after_ms: Date.now() - healedMs,
    found: [...double.values(), ...verdict.lost.values(), ...verdict.stuck.values()],
  };
}

const planOf = ({ seconds, kinds, longestHoldMs }: PartitionOptions) => ({
  forMs: seconds * 1_000,
  ...(kinds === undefined ? {} : { kinds }),
  ...(longestHoldMs === undefined ? {} : { longestHoldMs }),
});

async function prepare({ region, hosts }: RunningFleet): Promise<void> {
  execFileSync("bash", ["scripts/demo-image.sh"], { cwd: repositoryRoot, stdio: "ignore" });
  await region.importImage(join(repositoryRoot, ".hearth/demo/demo.tar"), demoImage);
  const [api] = hosts;
  if (api === undefined) return;
  const body = { app_name: drillApp, org_slug: "personal" };
  const { status } = await region.call(api, "POST", "/v1/apps", { body });
  if (status !== 201) throw new Error(`${api.name} made no app: ${status}`);
}

/** The first in which all is well, or the one at the limit. */
async function lastVerdict(fleet: RunningFleet, clients: FleetClients, endMs: number): Promise<Verdict> {
  for (;;) {
    const verdict = await judge(fleet, clients).catch((error: unknown) => {
      if (Date.now() > endMs) throw error;
      return undefined;
    });
    const isWell = verdict !== undefined && sizeOf(verdict) === 0;
    if (verdict !== undefined && (isWell || Date.now() > endMs)) return verdict;
    await delay(1_000);
  }
}

const sizeOf = ({ double, lost, stuck }: Verdict): number => double.size + lost.size + stuck.size;
