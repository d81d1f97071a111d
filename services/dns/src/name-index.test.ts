import assert from "node:assert/strict";
import { test } from "node:test";
import { factKeys } from "@hearth/machine";
import { parseClusterPrefix } from "@hearth/network";
import fc from "fast-check";
import type { IncomingFact } from "./machine-claims.ts";
import { NameIndex } from "./name-index.ts";
import { machineFact, machineId } from "./testing/machine-fact.ts";

const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const networks = [7, 8];
const apps = ["web", "job"];

const machines = fc
  .record({
    app: fc.constantFrom(...apps),
    machine: fc.integer({ min: 2, max: 4 }),
    network: fc.constantFrom(...networks),
    node: fc.integer({ min: 1, max: 3 }),
    state: fc.constantFrom("started" as const, "stopped" as const, "destroyed" as const),
    isGone: fc.boolean(),
  })
  .map(({ node, isGone, ...wish }) => {
    const { key, fact } = machineFact(prefix, { ...wish, nodeId: `n${node}`, host: node });
    return { key, value: isGone ? undefined : fact };
  });
const others = fc.oneof(
  fc
    .record({ node: fc.integer({ min: 1, max: 3 }), state: fc.constantFrom("held", "fenced", "returning") })
    .map(({ node, state }) => ({ key: factKeys.lease(`n${node}`), value: { state } })),
  fc
    .record({
      machine: fc.integer({ min: 2, max: 4 }),
      node: fc.integer({ min: 1, max: 3 }),
      moved: fc.boolean(),
    })
    .map(({ machine, node, moved }) => ({
      key: factKeys.placement(machineId(machine)),
      value: { node_id: `n${node}`, state: moved ? "moved" : "moving" },
    })),
  fc
    .record({ app: fc.constantFrom(...apps), network: fc.constantFrom(...networks), isGone: fc.boolean() })
    .map(({ app, network, isGone }) => ({
      key: factKeys.app(app),
      value: isGone ? undefined : { name: app, network },
    })),
);
const histories = fc
  .array(fc.oneof({ arbitrary: machines, weight: 3 }, others), { maxLength: 40 })
  .map((facts): IncomingFact[] => facts.map((fact, at) => ({ ...fact, revision: at + 1 })));

const seen = (index: NameIndex) =>
  [index.host, ...networks.map((network) => index.view(network))].map((view) =>
    view.apps().map((app) => [app, view.machines(app)]),
  );

test("after any history it knows what the last facts say, and no network sees another's machine", () => {
  fc.assert(
    fc.property(histories, (history) => {
      const index = new NameIndex("n1");
      for (const fact of history) index.take(fact);
      // A copy that starts has each key once, at the place where it was first said in this stream's life.
      const last = new Map<string, IncomingFact>();
      for (const fact of history) {
        const first = fact.value === undefined ? undefined : last.get(fact.key);
        if (fact.value === undefined) last.delete(fact.key);
        else last.set(fact.key, { ...fact, revision: first?.revision ?? fact.revision });
      }
      const fresh = new NameIndex("n1");
      for (const fact of last.values()) fresh.take(fact);
      assert.deepEqual(seen(index), seen(fresh));
      for (const network of networks)
        for (const app of index.view(network).apps())
          for (const machine of index.view(network).machines(app)) {
            assert.equal(machine.network, network);
            assert.equal(index.view(network).at(machine.address)?.id, machine.id);
          }
    }),
    { numRuns: 1_000 },
  );
});

test("what a node says of another's machine, or of another id, is not believed", () => {
  const index = new NameIndex("n1");
  const { fact } = machineFact(prefix, { app: "web", machine: 2, network: 7 });
  index.take({ key: factKeys.machine("n2", machineId(2)), value: fact, revision: 1 });
  index.take({ key: factKeys.machine("n1", machineId(3)), value: fact, revision: 2 });
  assert.equal(index.view(7).hasApp("web"), false);
  index.take({ key: factKeys.machine("n1", machineId(2)), value: fact, revision: 3 });
  assert.equal(index.view(7).hasApp("web"), true);
});

test("a fact that changes no name leaves what was answered before as it is", () => {
  const index = new NameIndex("n1");
  const { key, fact } = machineFact(prefix, { app: "web", machine: 2, network: 7 });
  index.take({ key, value: fact, revision: 1 });
  const { version } = index.view(7);
  index.take({ key, value: { ...fact, revision: 9, record: { ...fact.record, checks: [] } }, revision: 2 });
  assert.equal(index.view(7).version, version);
  index.take({ key, value: { ...fact, record: { ...fact.record, state: "stopping" } }, revision: 3 });
  assert.notEqual(index.view(7).version, version);
});
