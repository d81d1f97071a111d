import assert from "node:assert/strict";
import { test } from "node:test";
import type { StateHealth } from "@hearth/cluster";
import { createLogger } from "@hearth/telemetry";
import { type BusRemedy, BusWrites } from "./bus-writes.ts";

const led: StateHealth = { copies: 3, current: 3, behind: [], leader: "n2" };
const lookEveryMs = 2_000;

function setUp(version: string | undefined = "2.9.10") {
  const host = {
    ...{ nowMs: 0, isAnswered: true, tries: 0, servers: "1" },
    health: led as StateHealth | undefined,
  };
  const writes = new BusWrites({
    nodeId: "n1",
    version,
    isAnswered: async () => {
      host.tries += 1;
      return host.isAnswered;
    },
    nowMs: () => host.nowMs,
    logger: createLogger("test", {}, { destination: { write: () => undefined } }),
  });
  /** Looks as the agent does, does what is to be done, and tells when that was. */
  const remediesIn = async (forMs: number) => {
    const found: [BusRemedy, number][] = [];
    for (const endMs = host.nowMs + forMs; host.nowMs < endMs; host.nowMs += lookEveryMs) {
      const remedy = await writes.look({ health: host.health, servers: host.servers });
      if (remedy !== undefined) found.push([remedy, host.nowMs]);
      if (remedy === "reload") writes.noteReload();
      if (remedy === "restart") writes.noteStart();
    }
    return found;
  };
  const restartsIn = async (forMs: number) =>
    (await remediesIn(forMs)).flatMap(([remedy, atMs]) => (remedy === "restart" ? [atMs] : []));
  return { host, writes, remediesIn, restartsIn };
}

test("a server that answers no write starts again, and not again before it had time", async () => {
  const { host, restartsIn } = setUp();
  assert.deepEqual(await restartsIn(60_000), []);
  assert.equal(host.tries, 30, "at each look");
  host.isAnswered = false;
  const [first = 0, second = 0, ...more] = await restartsIn(100_000);
  assert.ok(first >= 71_000 && first <= 80_000, `${first}`);
  assert.ok(second - first >= 60_000 && second - first <= 64_000, `${second}`);
  assert.deepEqual(more, []);
});

test("one answer makes up for all that were missed", async () => {
  const { host, remediesIn } = setUp();
  host.isAnswered = false;
  assert.deepEqual(await remediesIn(14_000), []);
  host.isAnswered = true;
  assert.deepEqual(await remediesIn(4_000), []);
  host.isAnswered = false;
  assert.deepEqual(await remediesIn(14_000), []);
});

for (const [why, health] of [
  ["nothing is heard of the state", undefined],
  ["nobody leads", { copies: 3, current: 3, behind: [] }],
  ["it leads itself", { ...led, leader: "n1" }],
  ["the others are no majority", { ...led, current: 2, behind: ["n3"] }],
  ["there are two", { ...led, copies: 2, current: 2 }],
] as const)
  test(`it does not start again while ${why}`, async () => {
    const { host, restartsIn } = setUp();
    Object.assign(host, { health, isAnswered: false });
    assert.deepEqual(await restartsIn(60_000), []);
  });

test("a server that has read its configuration again tells those that come later where it takes answers", async () => {
  const { host, writes, remediesIn } = setUp();
  assert.deepEqual(await remediesIn(10_000), []);
  host.servers = "2";
  assert.deepEqual(await remediesIn(10_000), [], "not before it has read it again");
  writes.noteReload();
  assert.deepEqual(await remediesIn(10_000), [], "whoever was there has heard");
  host.servers = "3";
  assert.deepEqual(await remediesIn(10_000), [["reload", 30_000]]);
  host.health = { ...led, leader: "n3" };
  assert.deepEqual(await remediesIn(10_000), [["reload", 40_000]], "one that leads anew");
  host.servers = "4";
  writes.noteReload();
  assert.deepEqual(await remediesIn(10_000), [["reload", 54_000]], "not twice at once");
});

test("a write that is not answered is reason enough, and what was started anew has nothing to tell", async () => {
  const { host, writes, remediesIn } = setUp();
  assert.deepEqual(await remediesIn(2_000), []);
  writes.noteReload();
  assert.deepEqual(await remediesIn(6_000), []);
  host.isAnswered = false;
  assert.deepEqual(await remediesIn(8_000), [
    ["reload", 8_000],
    ["reload", 12_000],
  ]);
  host.isAnswered = true;
  writes.noteStart();
  host.servers = "2";
  assert.deepEqual(await remediesIn(10_000), []);
});

test("a server that tells everybody itself has nothing to do", async () => {
  const { host, writes, remediesIn } = setUp("2.9.17");
  writes.noteReload();
  host.servers = "2";
  assert.deepEqual(await remediesIn(10_000), []);
});
