import assert from "node:assert/strict";
import { test } from "node:test";
import type { Fact } from "@hearth/cluster";
import { factKeys } from "@hearth/machine";
import { PendingMachines } from "./pending-machines.ts";

const id = "6701cce1808d1b";

function setUp() {
  const watchers: { readonly prefix: string; readonly tell: (fact: Fact) => void }[] = [];
  let nowMs = 1_000_000;
  const pending = new PendingMachines({
    replica: {
      scan: () => [],
      watch: (prefix, onChange) => {
        const tell = (fact: Fact) => onChange(fact, { isLive: true, isPutBack: false });
        watchers.push({ prefix, tell });
        return { [Symbol.dispose]: () => undefined };
      },
    },
    isKnown: () => false,
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
  });
  const hear = (key: string, value: unknown): void => {
    for (const { prefix, tell } of watchers) if (key.startsWith(prefix)) tell({ key, value, revision: 1 });
  };
  hear(factKeys.machineName("web", "one"), { machine_id: id, taken_at_ms: nowMs });
  const pass = (ms: number): void => {
    nowMs += ms;
  };
  return { pending, hear, pass };
}

test("a machine that was promised may appear until its worker has spoken of it, or for a minute", () => {
  const one = setUp();
  assert.equal(one.pending.mayAppear("web", id), true);
  assert.equal(one.pending.mayAppear("other", id), false);
  one.hear(factKeys.machine("n1", id), { node_id: "n1" });
  assert.equal(one.pending.mayAppear("web", id), false);
  const another = setUp();
  another.pass(61_000);
  assert.equal(another.pending.mayAppear("web", id), false);
});

test("of a life so short that only its end is heard nothing is to come", () => {
  const { pending, hear } = setUp();
  hear(factKeys.machine("n1", id), undefined);
  assert.equal(pending.mayAppear("web", id), false);
});
