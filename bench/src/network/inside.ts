/** The measurements themselves; run by `network.ts` where they disturb nobody. Argument: how many runs. */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
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
const planOf = (machine: number, slot: string): SlotPlan =>
  planSlot({
    ...{ node, slot, machineId: machine.toString(16).padStart(14, "0"), egressSlot: machine },
    address: { prefix, host: 1, network: 7, machine },
  });
const strange = (machine: number): SlotPlan => planOf(machine, `hthx${machine}`);

await network.applyNode({ node, prefix, meshInterfaces: [], hostServices: [] });
await network.addElements(
  node,
  Array.from({ length: present }, (_, index) => planTeardown(strange(10_000 + index)).elements).flat(),
);

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
async function claim(machine: number): Promise<void> {
  const plan = planOf(machine, await pool.claim(`m${machine}`, never));
  await network.applySlot(plan, never);
  held.push(plan);
}
async function ready(): Promise<void> {
  while (ledger.ofMachine("pool").length < poolSize) await delay(2);
}

const [claims, releases, added, removed]: [number[], number[], number[], number[]] = [[], [], [], []];
for (let machine = 2; machine < runs + 2; machine += 1) {
  await ready();
  claims.push(await timed(() => claim(machine)));
  const { elements } = planTeardown(strange(machine));
  added.push(await timed(() => network.addElements(node, elements)));
  removed.push(await timed(() => network.removeElements(node, elements)));
}

await ready();
for (const plan of held.splice(2)) releases.push(await timed(() => network.removeSlot(planTeardown(plan))));
const ours = await slotWired(held[0] as SlotPlan, held[1] as SlotPlan);
const hand = await handWired();
const rates: { ours: number[]; hand: number[] } = { ours: [], hand: [] };
const ratios: number[] = [];
for (let turn = 0; turn < Math.max(9, runs); turn += 1) {
  const measure = { hand: () => mibPerSecond(hand), ours: () => mibPerSecond(ours) };
  const order = turn % 2 === 0 ? (["hand", "ours"] as const) : (["ours", "hand"] as const);
  for (const which of order) rates[which].push(await measure[which]());
  ratios.push((rates.ours.at(-1) ?? 0) / (rates.hand.at(-1) ?? 0));
}
await pool.stop();

const [by_slots, by_hand] = [medianOf(rates.ours, 0), medianOf(rates.hand, 0)];
process.stdout.write(
  JSON.stringify({
    ...{ runs, machines_present: present },
    claim_ms: medianOf(claims),
    release_ms: medianOf(releases),
    firewall_update_ms: medianOf(added),
    firewall_removal_ms: medianOf(removed),
    mib_per_second: { by_slots, by_hand },
    throughput_ratio: medianOf(ratios, 3),
  }),
);
