import assert from "node:assert/strict";
import { test } from "node:test";
import type { StateHealth } from "@hearth/cluster";
import { createLogger } from "@hearth/telemetry";
import { BusWrites } from "./bus-writes.ts";

const led: StateHealth = { copies: 3, current: 3, leader: "n2" };

function setUp() {
  const host = { nowMs: 0, isAnswered: true, tries: 0 };
  const writes = new BusWrites({
    nodeId: "n1",
    isAnswered: async () => {
      host.tries += 1;
      return host.isAnswered;
    },
    nowMs: () => host.nowMs,
    logger: createLogger("test", {}, { destination: { write: () => undefined } }),
  });
  /** Looks as the agent does, and tells after how long the server was to start again, each time. */
  const restartsIn = async (forMs: number, health: StateHealth | undefined): Promise<number[]> => {
    const found: number[] = [];
    for (const endMs = host.nowMs + forMs; host.nowMs < endMs; host.nowMs += 2_000)
      if (await writes.look(health)) found.push(host.nowMs);
    return found;
  };
  return { host, restartsIn };
}

test("a server that answers no write starts again, and not again before it had time", async () => {
  const { host, restartsIn } = setUp();
  assert.deepEqual(await restartsIn(60_000, led), []);
  assert.equal(host.tries, 15, "every four seconds");
  host.isAnswered = false;
  const [first = 0, second = 0, ...more] = await restartsIn(100_000, led);
  assert.ok(first >= 71_000 && first <= 80_000, `${first}`);
  assert.ok(second - first >= 60_000 && second - first <= 64_000, `${second}`);
  assert.deepEqual(more, []);
});

test("one answer makes up for all that were missed", async () => {
  const { host, restartsIn } = setUp();
  host.isAnswered = false;
  assert.deepEqual(await restartsIn(14_000, led), []);
  host.isAnswered = true;
  assert.deepEqual(await restartsIn(4_000, led), []);
  host.isAnswered = false;
  assert.deepEqual(await restartsIn(14_000, led), []);
});

for (const [why, health] of [
  ["nothing is heard of the state", undefined],
  ["nobody leads", { copies: 3, current: 3 }],
  ["it leads itself", { ...led, leader: "n1" }],
  ["the others are no majority", { ...led, current: 2 }],
  ["there are two", { ...led, copies: 2, current: 2 }],
] as const)
  test(`it goes on while ${why}`, async () => {
    const { host, restartsIn } = setUp();
    host.isAnswered = false;
    assert.deepEqual(await restartsIn(60_000, health), []);
  });
