import assert from "node:assert/strict";
import { test } from "node:test";
import type { StateHealth } from "@hearth/cluster";
import { createLogger } from "@hearth/telemetry";
import { BusHearing } from "./bus-hearing.ts";

const led: StateHealth = { copies: 3, current: 3, behind: [], leader: "n2" };

function setUp(told: Readonly<Record<string, StateHealth | undefined>>) {
  const host = { nowMs: 0, asked: 0 };
  const hearing = new BusHearing({
    nodeId: "n1",
    ask: async (server) => {
      host.asked += 1;
      return told[server];
    },
    nowMs: () => host.nowMs,
    logger: createLogger("test", {}, { destination: { write: () => undefined } }),
  });
  const restartsIn = async (forMs: number, silentSinceMs: number): Promise<number[]> => {
    const found: number[] = [];
    for (const endMs = host.nowMs + forMs; host.nowMs < endMs; host.nowMs += 2_000) {
      const silentMs = host.nowMs - silentSinceMs;
      if (await hearing.look({ servers: Object.keys(told), silentMs })) found.push(host.nowMs);
    }
    return found;
  };
  return { host, restartsIn };
}

test("a server that hears nothing while the others go on starts again, once a minute", async () => {
  const { host, restartsIn } = setUp({ two: undefined, three: led });
  assert.deepEqual(await restartsIn(14_000, 0), []);
  assert.equal(host.asked, 0, "nobody is asked while it may be an election");
  assert.deepEqual(await restartsIn(80_000, 0), [16_000, 76_000]);
});

test("its own copy may be the one that is behind", async () => {
  const { restartsIn } = setUp({ two: { ...led, current: 2, behind: ["n1"] } });
  assert.deepEqual(await restartsIn(20_000, 0), [16_000]);
});

for (const [why, told] of [
  ["nobody answers", { two: undefined, three: undefined }],
  ["nobody leads", { two: { copies: 3, current: 3, behind: [] } }],
  ["it leads itself", { two: { ...led, leader: "n1" } }],
  ["the others are no majority", { two: { ...led, current: 2, behind: ["n3"] } }],
] as const)
  test(`it does not while ${why}`, async () => {
    const { restartsIn } = setUp(told);
    assert.deepEqual(await restartsIn(100_000, 0), []);
  });
