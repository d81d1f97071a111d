/** The measurements themselves; run by `network.ts` where they disturb nobody. Argument: how many runs. */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { egressPolicyOf } from "@hearth/machine";
import { NetworkExecutor, parseClusterPrefix, planSlot, planTeardown, type SlotPlan } from "@hearth/network";
import { createLogger } from "@hearth/telemetry";
import { Ledger, openJournal, SlotPool } from "@hearth/worker";
import { medianOf } from "../median.ts";
import { handWired, mibPerSecond, slotWired } from "./wiring.ts";

const runs = Number(process.argv[2]);
const present = 1_000;
const node = "bench";
const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const network = new NetworkExecutor();
/** Closed but for two blocks, a port of each family, and a name. */
const policy = egressPolicyOf(undefined, {
  allowOut: ["203.0.113.0/24", "2001:db8::/32", "198.51.100.7:443", "[2001:db9::7]:443", "*.example.com:443"],
  allow_internet_access: false,
});
type Egress = NonNullable<typeof policy>;
const planOf = (machine: number, slot: string, egress?: Egress): SlotPlan =>
  planSlot({
    ...{ node, slot, machineId: machine.toString(16).padStart(14, "0"), egressSlot: machine },
    address: { prefix, host: 1, network: 7, machine },
    ...(egress === undefined ? {} : { egress }),
  });
const strange = (machine: number, egress?: Egress): SlotPlan => planOf(machine, `hthx${machine}`, egress);
const crowd = (egress?: Egress): SlotPlan["elements"] =>
  Array.from(
    { length: present },
    (_, index) => planTeardown(strange(10_000 + index, egress)).elements,
  ).flat();

await network.applyNode({ node, prefix, meshInterfaces: [], hostServices: [] });
await network.addElements(node, crowd());

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

const poolSize = 2;
const ledger = new Ledger(openJournal(":memory:"), () => Date.now());
const pool = new SlotPool({
  ...{ nodeId: node, ledger, network, ownerUid: 0, size: poolSize, randomBytes },
  clock: { nowMs: () => Date.now(), sleep: async (ms) => await delay(ms) },
  logger: createLogger("bench", {}, { destination: { write: () => undefined } }),
});
pool.start();
const never = new AbortController().signal;
const held: SlotPlan[] = [];
async function claim(machine: number, egress?: Egress): Promise<void> {
  const plan = planOf(machine, await pool.claim(`m${machine}`, never), egress);
  await network.applySlot(plan, never);
  held.push(plan);
}
async function ready(): Promise<void> {
  while (ledger.ofMachine("pool").length < poolSize) await delay(2);
}

async function measure(first: number, egress?: Egress) {
  const [claims, added, removed]: [number[], number[], number[]] = [[], [], []];
  for (let machine = first; machine < first + runs; machine += 1) {
    await ready();
    claims.push(await timed(() => claim(machine, egress)));
    const { elements } = planTeardown(strange(machine, egress));
    added.push(await timed(() => network.addElements(node, elements)));
    removed.push(await timed(() => network.removeElements(node, elements)));
  }
  return { claims, added, removed };
}
const open = await measure(2);
await network.addElements(node, crowd(policy));
const closed = await measure(2 + runs, policy);

await ready();
async function release(plans: readonly SlotPlan[]): Promise<number[]> {
  const times: number[] = [];
  for (const plan of plans) times.push(await timed(() => network.removeSlot(planTeardown(plan))));
  return times;
}
// The first two go on, for the throughput.
const [releases, closedReleases] = [await release(held.slice(2, runs)), await release(held.slice(runs))];
const ours = await slotWired(held[0] as SlotPlan, held[1] as SlotPlan);
const hand = await handWired();
const rates: { ours: number[]; hand: number[] } = { ours: [], hand: [] };
const ratios: number[] = [];
for (let turn = 0; turn < Math.max(9, runs); turn += 1) {
  const stream = { hand: () => mibPerSecond(hand), ours: () => mibPerSecond(ours) };
  const order = turn % 2 === 0 ? (["hand", "ours"] as const) : (["ours", "hand"] as const);
  for (const which of order) rates[which].push(await stream[which]());
  ratios.push((rates.ours.at(-1) ?? 0) / (rates.hand.at(-1) ?? 0));
}
await pool.stop();

const [by_slots, by_hand] = [medianOf(rates.ours, 0), medianOf(rates.hand, 0)];
process.stdout.write(
  JSON.stringify({
    ...{ runs, machines_present: present },
    claim_ms: medianOf(open.claims),
    claim_with_policy_ms: medianOf(closed.claims),
    release_ms: medianOf(releases),
    release_with_policy_ms: medianOf(closedReleases),
    firewall_update_ms: medianOf(open.added),
    firewall_removal_ms: medianOf(open.removed),
    firewall_update_with_policy_ms: medianOf(closed.added),
    firewall_removal_with_policy_ms: medianOf(closed.removed),
    mib_per_second: { by_slots, by_hand },
    throughput_ratio: medianOf(ratios, 3),
  }),
);
