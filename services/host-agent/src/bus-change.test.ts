import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BusFact, NodeKeyFact } from "@hearth/machine";
import fc from "fast-check";
import { type BusChange, planBusChange, smallestCluster } from "./bus-change.ts";

const node = (id: string, host_number: number, isBus = true): NodeKeyFact => ({
  ...{ node_id: id, host_number, roles: isBus ? ["worker", "bus"] : ["worker"], node_key: `U${id}` },
  ...(isBus ? { seal_key: `X${id}`, bus: { client_url: `nats://${id}:4222`, route_url: `${id}:6222` } } : {}),
  ...{ address: id, version: "0", joined_at_ms: 0 },
});
const all = ["a", "b", "c", "d"].map((id, index) => node(id, index + 1));
const worker = node("w", 9, false);
const fact = (members: readonly string[], more: Partial<BusFact> = {}): BusFact => ({
  ...{ state: "formed", members, secrets: {}, sealed_by: "X", ...more },
});
const offer = (members: readonly string[], ready: readonly string[], secret_number = 2) => ({
  next: { members, ready, secret_number, secrets: {}, sealed_by: "X" },
});

interface Look {
  readonly by: string;
  readonly fact: BusFact;
  readonly removed?: readonly string[];
  readonly nodes?: readonly NodeKeyFact[];
  readonly nextNumber?: number;
}
const plan = ({ by, fact: held, removed = [], nodes = all.slice(0, 3), nextNumber }: Look): BusChange =>
  planBusChange({ nodeId: by, nodes, removed: new Set(removed), fact: held, nextNumber });
const told = (change: BusChange) => ({
  step: change.step,
  ...("members" in change ? { members: change.members.map(({ node_id }) => node_id) } : {}),
});

describe("what is to be done about the servers of the bus", () => {
  test("nothing, while those who are members stay", () => {
    for (const by of ["a", "b", "c"])
      assert.deepEqual(plan({ by, fact: fact(["a", "b", "c"]), nodes: [...all, worker] }), { step: "none" });
  });

  test("a removed member has a new secret offered to those who stay, by the first of them only", () => {
    const gone = { fact: fact(["a", "b", "c"]), nodes: all.slice(1, 3), removed: ["a"] };
    assert.deepEqual(told(plan({ by: "b", ...gone })), { step: "offer", members: ["b", "c"] });
    assert.deepEqual(plan({ by: "c", ...gone }), { step: "none" });
    assert.deepEqual(plan({ by: "a", ...gone }), { step: "none" }, "it has no say any more");
  });

  test("a host that could run a server takes the place of the removed one, and a worker does not", () => {
    const look = { by: "a", fact: fact(["a", "b", "c"]), removed: ["c"], nodes: [...all, worker] };
    assert.deepEqual(told(plan(look)), { step: "offer", members: ["a", "b", "d"] });
    assert.deepEqual(told(plan({ ...look, removed: ["c", "d"] })), { step: "offer", members: ["a", "b"] });
  });

  test("the new secret counts when all who stay have it, and not before", () => {
    const look = { removed: ["c"], nodes: all.slice(0, 2) };
    const held = (ready: readonly string[]) => fact(["a", "b", "c"], offer(["a", "b"], ready));
    assert.deepEqual(told(plan({ ...look, by: "b", fact: held([]), nextNumber: 2 })), { step: "say_ready" });
    assert.deepEqual(plan({ ...look, by: "b", fact: held([]), nextNumber: 1 }), { step: "none" });
    const waits = plan({ ...look, by: "a", fact: held(["a"]), nextNumber: 2 });
    assert.match(waits.step === "none" ? (waits.problem ?? "") : "", /until b has taken it/);
    const done = plan({ ...look, by: "a", fact: held(["b", "a"]), nextNumber: 2 });
    assert.deepEqual(done, { step: "commit" });
  });

  test("whoever takes a place for the first time need not say anything before", () => {
    const held = fact(["a", "b", "c"], offer(["a", "b", "d"], ["a", "b"]));
    const look = { fact: held, removed: ["c"], nodes: all, nextNumber: 2 };
    assert.deepEqual(plan({ ...look, by: "d" }), { step: "none" });
    assert.deepEqual(plan({ ...look, by: "a" }), { step: "commit" });
  });

  test("who was offered the secret and is removed then makes it another secret", () => {
    const held = fact(["a", "b", "c"], offer(["a", "b", "d"], ["a", "b"]));
    const look = { by: "a", fact: held, removed: ["c", "d"], nodes: all, nextNumber: 2 };
    assert.deepEqual(told(plan(look)), { step: "offer", members: ["a", "b"] });
  });

  test("a third host joins a cluster of two under the secret that it has", () => {
    const look = { fact: fact(["a", "b"]), nodes: [...all, worker] };
    assert.deepEqual(told(plan({ ...look, by: "a" })), { step: "grow", members: ["a", "b", "c"] });
    assert.deepEqual(plan({ ...look, by: "b" }), { step: "none" });
  });

  test("the last server says that it cannot do it alone", () => {
    const change = plan({ by: "a", fact: fact(["a", "b", "c"]), removed: ["b", "c"] });
    assert.match(change.step === "none" ? (change.problem ?? "") : "", /One server of the bus is left/);
  });

  test("a copy of the state that lacks a member takes it for no removed one", () => {
    for (const nodes of [[], all.slice(0, 1), all.slice(0, 2), [...all.slice(0, 2), all[3] as NodeKeyFact]])
      assert.deepEqual(plan({ by: "a", fact: fact(["a", "b", "c"]), nodes }), { step: "none" });
    const half = plan({ by: "a", fact: fact(["a", "b", "c"]), removed: ["c"], nodes: all.slice(0, 1) });
    assert.deepEqual(half, { step: "none" });
  });

  test("a cluster that is being formed is the first host's alone to change", () => {
    const held = fact(["a", "b", "c"], { state: "forming" });
    assert.deepEqual(plan({ by: "a", fact: held, removed: ["c"] }), { step: "none" });
  });

  test("whoever is removed, and in whatever order the hosts look, those who stay end up with one secret", () => {
    const ids = all.map(({ node_id }) => node_id);
    const removals = fc.subarray(ids, { minLength: 1, maxLength: 2 });
    const looks = fc.array(fc.constantFrom(...ids), { minLength: 40, maxLength: 60 });
    fc.assert(
      fc.property(removals, looks, (removed, order) => {
        let held = fact(["a", "b", "c"]);
        const disk = new Map<string, number>();
        const look = (by: string): void => {
          if (removed.includes(by)) return;
          if (held.next?.members.includes(by)) disk.set(by, held.next.secret_number);
          const nextNumber = disk.get(by);
          const change = planBusChange({
            nodeId: by,
            nodes: all,
            removed: new Set(removed),
            fact: held,
            nextNumber,
          });
          const { next, ...rest } = held;
          if (change.step === "offer") {
            const number = Math.max(held.secret_number ?? 1, next?.secret_number ?? 0) + 1;
            held = {
              ...rest,
              ...offer(
                change.members.map(({ node_id }) => node_id),
                [],
                number,
              ),
            };
          }
          if (change.step === "say_ready" && next)
            held = { ...rest, next: { ...next, ready: [...next.ready, by] } };
          if (change.step === "commit" && next) {
            const missing = held.members.filter((id) => !removed.includes(id) && !next.ready.includes(id));
            assert.deepEqual(missing, [], "nobody who stays is left behind");
            const { ready: _ready, ...sealed } = next;
            held = { ...rest, ...sealed };
          }
          if (change.step === "grow")
            held = { ...held, members: change.members.map(({ node_id }) => node_id) };
        };
        for (const by of order) look(by);
        // However they came so far, a few more looks of each bring it to an end.
        for (let round = 0; round < 6; round += 1) for (const by of ids) look(by);
        assert.equal(held.next, undefined);
        const isGone = removed.some((id) => ["a", "b", "c"].includes(id));
        assert.equal(
          held.members.some((id) => removed.includes(id)),
          false,
        );
        assert.equal((held.secret_number ?? 1) > 1, isGone);
        assert.ok(held.members.length >= smallestCluster);
      }),
    );
  });
});
