import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "@hearth/telemetry";
import { NetworkPairs, type NetworkPairsDeps } from "./network-pairs.ts";

const logger = createLogger("pairs", {}, { destination: { write: () => undefined } });
const pair = (one: number, other: number) => ({ networks: [one, other] });

function facts() {
  let values: ReturnType<typeof pair>[] = [];
  let isJoined = true;
  const told = new Set<() => void>();
  const replica = {
    get: () => (isJoined ? { value: {} } : undefined),
    list: () => values.map((value) => ({ value })),
    watch: (_prefix: string, heard: () => void) => {
      told.add(heard);
      return { [Symbol.dispose]: () => told.delete(heard) };
    },
  } as unknown as NetworkPairsDeps["replica"];
  return {
    replica,
    become: (next: typeof values, joined = true) => {
      [values, isJoined] = [next, joined];
      for (const heard of told) heard();
    },
    isWatched: () => told.size > 0,
  };
}

/** What the firewall is told, one after the other. */
function firewall(failures: number) {
  const asked: (readonly (readonly [number, number])[])[] = [];
  let left = failures;
  let heard = Promise.withResolvers<void>();
  return {
    asked,
    async told(count: number) {
      while (asked.length < count) await heard.promise;
    },
    network: {
      pairNetworks: async (_node: string, pairs: readonly (readonly [number, number])[]) => {
        if (left-- > 0) throw new Error("the host refuses");
        asked.push(pairs);
        heard.resolve();
        heard = Promise.withResolvers();
      },
    },
  };
}

test("the firewall is told all pairs at the start and at each change", { timeout: 10_000 }, async () => {
  const state = facts();
  const { asked, told, network } = firewall(0);
  state.become([pair(7, 8)]);
  const pairs = new NetworkPairs({ nodeId: "n1", replica: state.replica, network, logger });
  pairs.start();
  await told(1);
  state.become([pair(7, 8), pair(1, 2)]);
  await told(2);
  state.become([]);
  await told(3);
  await pairs.stop();
  assert.deepEqual(asked, [
    [[7, 8]],
    [
      [7, 8],
      [1, 2],
    ],
    [],
  ]);
  assert.ok(!state.isWatched());
});

test("what the host refused is tried again", { timeout: 10_000 }, async () => {
  const state = facts();
  const { asked, told, network } = firewall(2);
  state.become([pair(7, 8)]);
  const pairs = new NetworkPairs({ nodeId: "n1", replica: state.replica, network, logger, retryMs: 1 });
  pairs.start();
  await told(1);
  await pairs.stop();
  assert.deepEqual(asked, [[[7, 8]]]);
});

test("a copy that does not know its own node yet cuts nobody off", { timeout: 10_000 }, async () => {
  const state = facts();
  const { asked, told, network } = firewall(0);
  state.become([], false);
  const pairs = new NetworkPairs({ nodeId: "n1", replica: state.replica, network, logger });
  pairs.start();
  state.become([pair(7, 8)]);
  await told(1);
  await pairs.stop();
  assert.deepEqual(asked, [[[7, 8]]]);
});
