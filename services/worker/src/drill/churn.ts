/**
 * Churn: many machines created, started, stopped, restarted and destroyed at random, with the worker killed at
 * random meanwhile. When all of them are gone, nothing of any may be left. The seed replays the choices; when a
 * kill falls among them is the host's own timing.
 */
import { setTimeout as delay } from "node:timers/promises";
import { heldByMachines } from "./converged.ts";
import { type DrillNode, eventually } from "./drill-node.ts";
import { type DrillMachine, newDrillMachine, operations, recordOf } from "./operations.ts";
import { seeded } from "./seeded.ts";

export interface ChurnOptions {
  readonly machines: number;
  readonly seed: number;
  readonly onProgress?: (line: string) => void;
}

export interface ChurnResult {
  readonly machines: number;
  readonly actions: number;
  readonly kills: number;
  readonly leaked: number;
  readonly left: readonly unknown[];
  readonly seed: number;
}

const together = 8;
const longestLifeMs = 1_000;
const shortestLifeMs = 200;
const goneMs = 120_000;
const asked = ["start", "stop", "restart"] as const;

export async function runChurn(node: DrillNode, options: ChurnOptions): Promise<ChurnResult> {
  const random = seeded(options.seed);
  let [made, actions, kills] = [0, 0, 0];
  const over = new AbortController();

  const one = async (): Promise<void> => {
    while (made < options.machines) {
      made += 1;
      const number = made;
      const machine = newDrillMachine();
      await insist(node, () => operation("create").ask(node, machine));
      const turns = 1 + Math.floor(random() * 4);
      for (let turn = 0; turn < turns; turn += 1) {
        const name = asked[Math.floor(random() * asked.length)] ?? "stop";
        actions += 1;
        // Refused when the machine is in no state for it, which is as much of an answer as any.
        await operation(name)
          .ask(node, machine)
          .catch(() => undefined);
        if (random() < 0.5) await settled(node, machine);
      }
      actions += 2;
      await insist(node, () => operation("force-destroy").ask(node, machine));
      await eventually(`${machine.id} is destroyed`, () => isGone(node, machine), goneMs);
      if (number % 20 === 0)
        options.onProgress?.(`${number} of ${options.machines} machines, ${kills} kills`);
    }
  };
  const killing = (async () => {
    while (!over.signal.aborted) {
      const lifeMs = shortestLifeMs + random() * (longestLifeMs - shortestLifeMs);
      await delay(lifeMs, undefined, { signal: over.signal }).catch(() => undefined);
      if (over.signal.aborted) return;
      await node.endWorker("SIGKILL");
      kills += 1;
      await node.startWorker();
    }
  })();
  try {
    await Promise.all(Array.from({ length: together }, one));
  } finally {
    over.abort();
    await killing;
  }
  const held = await heldByMachines(node);
  const { differences } = await node.inspect();
  const images = [...node.holders].map((holder) => ({ kind: "image", holder }));
  const left = [...differences, ...held, ...images];
  return { machines: made, actions, kills, leaked: left.length, left, seed: options.seed };
}

function operation(name: string) {
  const found = operations.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no operation ${name}`);
  return found;
}

/** Asks again until it is answered, as the API's own client would. */
async function insist(node: DrillNode, ask: () => Promise<unknown>): Promise<void> {
  await eventually(
    "the worker answers",
    async () => {
      if (!node.workerLives) return undefined;
      return await ask().then(
        () => true,
        () => undefined,
      );
    },
    goneMs,
  );
}

async function settled(node: DrillNode, machine: DrillMachine): Promise<void> {
  const rest = new Set(["started", "stopped", "failed", "created"]);
  await eventually(
    `${machine.id} rests`,
    async () => {
      const state = (await recordOf(node, machine.id))?.state;
      return state !== undefined && rest.has(state) ? true : undefined;
    },
    goneMs,
  );
}

const isGone = async (node: DrillNode, { id }: DrillMachine): Promise<true | undefined> =>
  (await recordOf(node, id))?.state === "destroyed" ? true : undefined;
