import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { factKeys } from "./facts.ts";
import {
  believedClaim,
  type ClaimOrder,
  countingClaim,
  nodeStanding,
  readClaimKey,
  withClaim,
  withoutClaim,
} from "./machine-claim.ts";

const id = "00000000000001";
const claim = (nodeId: string, factRevision = 0): ClaimOrder => ({ nodeId, factRevision });
const moving = (node_id: string) => ({ node_id, state: "moving" }) as const;
const moved = (node_id: string) => ({ node_id, state: "moved" }) as const;
const counted = (
  nodes: readonly string[],
  placement?: { readonly node_id: string; readonly state: "moving" | "moved" },
  gone: readonly string[] = [],
) =>
  countingClaim(
    nodes.map((node) => claim(node)),
    placement,
    (node) => !gone.includes(node),
  )?.nodeId;

test("a node is believed of its own machines, under the key of that machine", () => {
  const key = readClaimKey(factKeys.machine("n1", id));
  assert.deepEqual(key, { nodeId: "n1", machineId: id });
  assert.ok(key);
  const fact = { node_id: "n1", record: { id } };
  assert.equal(believedClaim(key, fact), fact);
  assert.equal(believedClaim(key, { ...fact, node_id: "n2" }), undefined);
  assert.equal(believedClaim(key, { ...fact, record: { id: "00000000000002" } }), undefined);
  assert.equal(believedClaim(key, undefined), undefined);
  for (const other of [
    "machine.n1",
    "machine..x",
    "machine.n1.",
    "machine.n1.x.y",
    "node.n1",
    "machine-name.a.b",
  ])
    assert.equal(readClaimKey(other), undefined, other);
});

test("of two that claim a machine, the one counts that its placement names, or that was known first", () => {
  assert.equal(counted([]), undefined);
  assert.equal(counted(["n1", "n2"]), "n1");
  assert.equal(counted(["n1", "n2"], moving("n2")), "n2");
  assert.equal(counted(["n1"], moving("n2")), "n1", "the one that it leaves has it still");
  assert.equal(counted(["n1"], moved("n2")), undefined, "what the old node says of it is no news");
});

test("what a node that is gone says of its machines does not count, also where a placement names it", () => {
  assert.equal(counted(["n1"], undefined, ["n1"]), undefined);
  assert.equal(counted(["n1", "n2"], undefined, ["n1"]), "n2");
  assert.equal(counted(["n1", "n2"], moving("n2"), ["n2"]), "n1");
  assert.equal(counted(["n1", "n2"], moved("n2"), ["n2"]), undefined);
});

test("a node is fenced by its lease, and removed by its lease or by its operators", () => {
  assert.equal(nodeStanding(undefined, undefined), "there");
  for (const state of ["held", "returning"] as const)
    assert.equal(nodeStanding({ state }, {}), "there", state);
  assert.equal(nodeStanding({ state: "fenced" }, {}), "fenced");
  assert.equal(nodeStanding({ state: "removed" }, {}), "removed");
  assert.equal(nodeStanding({ state: "fenced" }, { removed: { at_ms: 1 } }), "removed");
});

test("in whatever order claims are read, the oldest is first, and one that is said again keeps its place", () => {
  const claims = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 9 });
  fc.assert(
    fc.property(claims, fc.integer({ min: 1, max: 9 }), (revisions, again) => {
      const all = revisions.reduce<ClaimOrder[]>((known, one) => withClaim(known, claim(`n${one}`, one)), []);
      const sorted = revisions.toSorted((a, b) => a - b).map((one) => `n${one}`);
      assert.deepEqual(
        all.map(({ nodeId }) => nodeId),
        sorted,
      );
      if (!revisions.includes(again)) return;
      const updated = withClaim(all, claim(`n${again}`, 100));
      assert.deepEqual(
        updated.map(({ nodeId }) => nodeId),
        sorted,
      );
      assert.equal(updated.find(({ nodeId }) => nodeId === `n${again}`)?.factRevision, 100);
      const left = withoutClaim(updated, `n${again}`).map(({ nodeId }) => nodeId);
      assert.deepEqual(
        left,
        sorted.filter((node) => node !== `n${again}`),
      );
    }),
  );
});
