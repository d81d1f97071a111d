import assert from "node:assert/strict";
import { test } from "node:test";
import type { EndpointState } from "../routes/endpoint.ts";
import { StartOnce } from "./start-once.ts";

function begin() {
  const states = new Map<string, EndpointState>([
    ["m1", "asleep"],
    ["m2", "asleep"],
  ]);
  const commands: { readonly id: string; readonly done: PromiseWithResolvers<void> }[] = [];
  let nowMs = 0;
  const starts = new StartOnce({
    machine: (id) => {
      const state = states.get(id);
      return state === undefined ? undefined : { app: "web", state };
    },
    start: ({ id }) => {
      const done = Promise.withResolvers<void>();
      commands.push({ id, done });
      return done.promise;
    },
    nowMs: () => nowMs,
  });
  return {
    ...{ starts, states, commands },
    ids: () => commands.map(({ id }) => id),
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

test("whoever asks for a machine of an app that is being started shares that start", async () => {
  const { starts, states, commands, ids } = begin();
  const both = [starts.start({ id: "m1", nodeId: "n1" }), starts.start({ id: "m2", nodeId: "n1" })];
  commands[0]?.done.resolve();
  await Promise.all(both);
  states.set("m1", "waking");
  void starts.start({ id: "m2", nodeId: "n1" });
  assert.deepEqual(ids(), ["m1"]);
  states.set("m1", "ready");
  void starts.start({ id: "m2", nodeId: "n1" });
  assert.deepEqual(ids(), ["m1", "m2"], "one that is ready is not enough for who asks now");
});

test("a start that failed fails for all, and may be asked for again at once", async () => {
  const { starts, commands, ids } = begin();
  const both = [starts.start({ id: "m1", nodeId: "n1" }), starts.start({ id: "m2", nodeId: "n1" })];
  commands[0]?.done.reject(new Error("no memory"));
  for (const one of both) await assert.rejects(one, /no memory/);
  void starts.start({ id: "m2", nodeId: "n1" });
  assert.deepEqual(ids(), ["m1", "m2"]);
});

test("a start of which nothing is seen may be asked for again after a while", () => {
  const { starts, pass, ids } = begin();
  void starts.start({ id: "m1", nodeId: "n1" });
  pass(9_000);
  void starts.start({ id: "m1", nodeId: "n1" });
  pass(2_000);
  void starts.start({ id: "m1", nodeId: "n1" });
  assert.deepEqual(ids(), ["m1", "m1"]);
});
