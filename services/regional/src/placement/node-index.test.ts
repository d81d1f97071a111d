/** The index chooses as the whole rule does, and measures how old a fact is by its own clock. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Fact } from "@hearth/cluster";
import { factKeys, type NodeFact } from "@hearth/machine";
import fc from "fast-check";
import { NodeIndex, nodeFactLimitMs } from "./node-index.ts";
import { type PlacementRequest, rankNodes } from "./placement.ts";

const nodeOf = (id: string, changes: Partial<NodeFact> = {}): NodeFact =>
  ({
    ...{ node_id: id, region: "ams", free_memory_mb: 4096, total_memory_mb: 8192, warnings: [] },
    ...{ published_at_ms: 0, machines: 0, ...changes },
  }) as unknown as NodeFact;
const keyed = (node: NodeFact): Fact => ({ key: factKeys.node(node.node_id), value: node, revision: 1 });

function indexOf(nodes: readonly NodeFact[] = []) {
  const clock = { wallMs: 5_000_000, ms: 1_000 };
  const replica = {
    list: (prefix: string) => (prefix === "node." ? nodes.map(keyed) : []),
    watch: () => ({ [Symbol.dispose]: () => undefined }),
  };
  const index = new NodeIndex(replica, { nowMs: () => clock.wallMs, monotonicMs: () => clock.ms });
  const hear = (node: NodeFact): void => index.take(keyed(node), { isLive: true });
  return { index, clock, hear };
}

const names = (nodes: Iterable<NodeFact>): string[] => [...nodes].map(({ node_id }) => node_id);
const anywhere: PlacementRequest = { region: undefined, memoryMb: 256, cpus: 1 };
const noApp = new Map<string, number>();

const someNode = fc.record({
  region: fc.constantFrom("ams", "fra"),
  free_memory_mb: fc.constantFrom(0, 128, 256, 512, 1024),
  free_cpus: fc.constantFrom(0, 2, 64),
  labels: fc.constantFrom({}, { zone: "a" }, { zone: "b" }),
  images: fc.constantFrom([], ["web:1"], ["job:1", "web:1"]),
  problems: fc.constantFrom([], [], [], ["It is ill."]),
  ofApp: fc.nat(3),
  policy: fc.constantFrom("none", "none", "none", "cordoned", "draining"),
  silent: fc.boolean(),
});
const someRequest = fc.record({
  region: fc.constantFrom(undefined, "ams", "fra", "sin"),
  memoryMb: fc.constantFrom(128, 256, 600),
  cpus: fc.constantFrom(1, 4),
  labels: fc.constantFrom(undefined, { zone: "a" }),
  antiAffinity: fc.boolean(),
  image: fc.constantFrom(undefined, "web:1", "none:1"),
});

test("the index names the candidates of the whole rule, in its order, however facts came and went", () => {
  const region = fc.array(someNode, { maxLength: 40 });
  fc.assert(
    fc.property(region, region, someRequest, (before, after, request) => {
      const { index, clock, hear } = indexOf();
      const counts = new Map<string, number>();
      const tell = (all: typeof before): void => {
        counts.clear();
        for (const [at, { ofApp, policy, silent, ...fact }] of all.entries()) {
          const id = `n${at}`;
          if (silent) index.take(keyed(nodeOf(id, fact)), { isLive: false });
          else hear(nodeOf(id, fact));
          if (ofApp > 0) counts.set(id, ofApp);
          const value =
            policy === "none"
              ? undefined
              : { cordoned: policy === "cordoned", draining: policy === "draining" };
          index.takePolicy({ key: factKeys.nodePolicy(id), value, revision: 1 });
        }
      };
      tell(before);
      for (let at = after.length; at < before.length; at += 1)
        index.take({ key: factKeys.node(`n${at}`), value: undefined, revision: 2 }, { isLive: true });
      clock.ms += 10;
      tell(after);
      const whole = rankNodes(index.views(counts), request, nodeFactLimitMs);
      assert.deepEqual(names(index.candidates(request, counts)), names(whole.candidates));
    }),
    { numRuns: 500 },
  );
});

test("nodes that change while their like are asked come no second time, and those that are left still come", () => {
  const { index, hear } = indexOf();
  for (const [at, id] of ["a", "b", "c", "d"].entries()) hear(nodeOf(id, { free_memory_mb: 1000 + at }));
  const seen: string[] = [];
  for (const { node_id } of index.candidates(anywhere, noApp)) {
    seen.push(node_id);
    if (node_id === "a") hear(nodeOf("a", { free_memory_mb: 9000 }));
    if (node_id === "b") hear(nodeOf("c", { free_memory_mb: 100 }));
  }
  assert.deepEqual(seen, ["a", "b", "d"]);
});

test("many holders of an image are found in order as a few are", () => {
  const { index, hear } = indexOf();
  for (let at = 0; at < 600; at += 1)
    hear(nodeOf(`n${at}`, { free_memory_mb: 4096 - at, images: at % 2 === 0 ? ["web:1"] : [] }));
  const request = { ...anywhere, image: "web:1" };
  const whole = rankNodes(index.views(noApp), request, nodeFactLimitMs);
  assert.deepEqual(names(index.candidates(request, noApp)), names(whole.candidates));
});

for (const [where, skewMs] of [
  ["ahead", 3_600_000],
  ["behind", -3_600_000],
] as const)
  test(`a node whose clock is an hour ${where} is as fresh as any, and its clock is told of`, () => {
    const { index, clock, hear } = indexOf();
    hear(nodeOf("n1", { published_at_ms: clock.wallMs + skewMs }));
    assert.deepEqual(names(index.candidates(anywhere, noApp)), ["n1"]);
    assert.equal(index.clockSkewMs("n1"), skewMs);
    clock.ms += nodeFactLimitMs + 1;
    assert.deepEqual(names(index.candidates(anywhere, noApp)), [], "and as silent as any later");
  });

test("this host's own clock jumping does not age a node", () => {
  const { index, clock, hear } = indexOf();
  hear(nodeOf("n1", { published_at_ms: clock.wallMs }));
  clock.wallMs += 3_600_000;
  assert.equal(index.ageMs("n1"), 0);
});

test("what was read from the disk, or had piled up, says nothing of now", async () => {
  const { index, clock, hear } = indexOf([nodeOf("n1", { published_at_ms: 5_000_000 })]);
  const refused: string[] = [];
  index.take(keyed(nodeOf("n1")), { isLive: false });
  for (const _ of index.candidates(anywhere, noApp, ({ code }) => refused.push(code))) assert.fail();
  assert.deepEqual(refused, ["not_heard"]);
  assert.equal(index.ageMs("n1"), Number.POSITIVE_INFINITY);
  const waiting = index.hearsMore(4_000);
  hear(nodeOf("n1"));
  assert.equal(await waiting, true);
  assert.equal(await index.hearsMore(4_000), false, "there is nobody left to wait for");
  clock.ms += 100;
  assert.deepEqual(names(index.candidates(anywhere, noApp)), ["n1"]);
});

test("what a worker answers about its room counts until its next fact", () => {
  const { index, hear } = indexOf();
  hear(nodeOf("n1"));
  index.correct("n1", { free_memory_mb: 100, free_cpus: 3 });
  assert.deepEqual(names(index.candidates(anywhere, noApp)), []);
  hear(nodeOf("n1"));
  assert.deepEqual(names(index.candidates(anywhere, noApp)), ["n1"]);
});
