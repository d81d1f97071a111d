/** Puts a whole region into the stream, many facts at a time, each acknowledged. */
import type { FactStore } from "@hearth/cluster";
import { factKeys } from "@hearth/machine";
import { machineFact, nodeFact, type RegionSize, usedMemory } from "./region.ts";

const atOnce = 2_000;

/** Resolves with the last revision. */
export async function publishRegion(facts: FactStore, size: RegionSize): Promise<number> {
  let last = 0;
  let pending: Promise<number>[] = [];
  const settle = async (): Promise<void> => {
    for (const revision of await Promise.all(pending)) last = Math.max(last, revision);
    pending = [];
  };
  const send = async (key: string, value: unknown): Promise<void> => {
    pending.push(facts.publish(key, value));
    if (pending.length >= atOnce) await settle();
  };
  for (let machine = 0; machine < size.machines; machine += 1) {
    const fact = machineFact(machine, size);
    await send(factKeys.machine(fact.node_id, fact.record.id), fact);
  }
  const used = usedMemory(size);
  for (let host = 0; host < size.hosts; host += 1) {
    const fact = nodeFact(host, size, used[host] ?? 0);
    await send(factKeys.node(fact.node_id), fact);
  }
  await settle();
  return last;
}
