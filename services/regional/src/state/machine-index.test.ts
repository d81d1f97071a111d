import assert from "node:assert/strict";
import { test } from "node:test";
import type { Fact, Replica } from "@hearth/cluster";
import { factKeys, type MachineFact } from "@hearth/machine";
import { MachineIndex } from "./machine-index.ts";

const id = "00000000000001";

/** A replica in memory: what the index needs of one. */
function replicaOf(...first: Fact[]) {
  const facts = new Map(first.map((fact) => [fact.key, fact]));
  const watchers: ((fact: Fact) => void)[] = [];
  const set = (key: string, value: unknown): void => {
    const fact = { key, value, revision: facts.size + 1 };
    facts.set(key, fact);
    for (const watcher of watchers) watcher(fact);
  };
  const replica = {
    get: (key: string) => facts.get(key),
    list: (prefix: string) => [...facts.values()].filter(({ key }) => key.startsWith(prefix)),
    scan: (prefix: string) => [...facts.values()].filter(({ key }) => key.startsWith(prefix)),
    watch: (prefix: string, onChange: (fact: Fact) => void) => {
      watchers.push((fact) => fact.key.startsWith(prefix) && onChange(fact));
      return { [Symbol.dispose]: () => undefined };
    },
  } as unknown as Replica;
  return { replica, set };
}

const factOf = (node_id: string, state = "started", app = "web"): MachineFact =>
  ({
    node_id,
    app,
    revision: 1,
    record: { id, state, updated_at: "2026-01-01T00:00:00Z", region: "local" },
  }) as unknown as MachineFact;

test("machines are found by id and by app, from the first facts and from later ones", () => {
  const { replica, set } = replicaOf({ key: factKeys.machine("n1", id), value: factOf("n1"), revision: 7 });
  const index = new MachineIndex(replica);
  assert.equal(index.find(id)?.node_id, "n1");
  set(factKeys.machine("n1", id), factOf("n1", "stopped"));
  assert.equal(index.find(id)?.record.state, "stopped");
  assert.equal(index.ofApp("web").length, 1);
  set(factKeys.machine("n1", id), undefined);
  assert.equal(index.find(id), undefined);
  assert.deepEqual([index.summaries(), index.ofApp("web")], [[], []]);
});

test("a node that speaks for another node's machine is not believed", () => {
  const { replica, set } = replicaOf();
  const index = new MachineIndex(replica);
  set(factKeys.machine("n1", id), factOf("n1"));
  set(factKeys.machine("n2", id), factOf("n1", "failed"));
  assert.equal(index.find(id)?.record.state, "started");
  set(factKeys.machine("n2", id), factOf("n2", "failed", "other"));
  assert.equal(index.find(id)?.node_id, "n1", "who was known first");
  assert.deepEqual(index.ofApp("other"), [], "nor into another app");
});

test("a machine that moved is where its placement says, and its watchers are told", () => {
  const { replica, set } = replicaOf();
  const index = new MachineIndex(replica);
  const seen: (string | undefined)[] = [];
  set(factKeys.machine("n1", id), factOf("n1"));
  using _watching = index.watch(id, (fact) => seen.push(fact?.node_id));
  set(factKeys.placement(id), { node_id: "n2" });
  set(factKeys.machine("n2", id), factOf("n2"));
  set(factKeys.machine("n1", id), undefined);
  assert.deepEqual(seen, ["n1", "n2", "n2"]);
  assert.equal(index.summaries().length, 1);
});

test("machines of an app are counted by node, without those that are destroyed, through moves and deletions", () => {
  const { replica, set } = replicaOf();
  const index = new MachineIndex(replica);
  const other = "00000000000002";
  const counts = () => Object.fromEntries(index.perNode("web"));
  const of = (node: string, machine: string, state = "started", app = "web") => {
    const fact = factOf(node, state, app);
    return { ...fact, record: { ...fact.record, id: machine } } as MachineFact;
  };
  set(factKeys.machine("n1", id), of("n1", id));
  set(factKeys.machine("n1", other), of("n1", other));
  assert.deepEqual(counts(), { n1: 2 });
  set(factKeys.machine("n1", id), of("n1", id, "stopped"));
  assert.deepEqual(counts(), { n1: 2 }, "said again");
  set(factKeys.machine("n1", other), of("n1", other, "destroyed"));
  assert.deepEqual(counts(), { n1: 1 });
  set(factKeys.machine("n2", id), of("n2", id));
  assert.deepEqual(counts(), { n1: 1 }, "a claim is no machine");
  set(factKeys.placement(id), { node_id: "n2" });
  assert.deepEqual(counts(), { n2: 1 });
  set(factKeys.machine("n2", id), of("n2", id, "started", "other"));
  assert.deepEqual([counts(), Object.fromEntries(index.perNode("other"))], [{}, { n2: 1 }]);
  for (const node of ["n1", "n2"]) set(factKeys.machine(node, id), undefined);
  set(factKeys.machine("n1", other), undefined);
  assert.deepEqual([index.size, index.summaries("web"), counts()], [0, [], {}]);
});
