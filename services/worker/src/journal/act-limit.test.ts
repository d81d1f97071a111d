/** What becomes of an act whose limit has passed: it never meets its own repetition or its undoing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openJournal } from "./journal.ts";
import { RunEngine } from "./run-engine.ts";
import type { RunDefinition, Step } from "./run-step.ts";

const never = new AbortController().signal;

function engineOf(abandonMs: number) {
  const database = openJournal(":memory:");
  const engine = new RunEngine({ database, nowMs: () => 0, sleep: async () => undefined, abandonMs });
  engine.record({ runId: "r1", machineId: "m1", kind: "machine-start", input: {} });
  return engine;
}

/** Says what it did, in order; `act` is what its `do` awaits. */
function stepOf(told: string[], act: (signal: AbortSignal) => Promise<void>, maxAttempts = 2) {
  const step: Step<object> = {
    ...{ name: "disk", limitMs: 20, maxAttempts },
    inspect: async () => false,
    do: async (_, { signal, attempt }) => {
      told.push(`begins ${attempt}`);
      await act(signal);
      told.push(`acts ${attempt}`);
      return { kind: "done" };
    },
    undo: async () => void told.push("undone"),
  };
  return { kind: "machine-start", steps: [step] } satisfies RunDefinition<object>;
}

test("an act that heeds its limit late is waited for, and then repeated", async () => {
  const told: string[] = [];
  let late = true;
  const definition = stepOf(told, async (signal) => {
    if (!late) return;
    late = false;
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    told.push("the end of the first");
    signal.throwIfAborted();
  });
  assert.deepEqual(await engineOf(10_000).resume("r1", definition, never), { kind: "done" });
  assert.deepEqual(told, ["begins 1", "the end of the first", "begins 2", "acts 2"]);
});

test("an act that ends well after its limit counts as done, and is not made twice", async () => {
  const told: string[] = [];
  const definition = stepOf(
    told,
    (signal) =>
      new Promise((resolve) => signal.addEventListener("abort", () => setImmediate(() => resolve()))),
  );
  assert.deepEqual(await engineOf(10_000).resume("r1", definition, never), { kind: "done" });
  assert.deepEqual(told, ["begins 1", "acts 1"]);
});

test("an act that never heeds its limit is not begun again beside itself, but undone", async () => {
  const told: string[] = [];
  const definition = stepOf(told, () => new Promise(() => undefined), 5);
  const outcome = await engineOf(20).resume("r1", definition, never);
  assert.equal(outcome.kind === "failed" && outcome.code, "deadline_exceeded");
  assert.match(outcome.kind === "failed" ? outcome.reason : "", /nor when it was told to stop/);
  assert.deepEqual(told, ["begins 1", "undone"]);
});

test("who stops a run waits for its act before it undoes it", async () => {
  const told: string[] = [];
  const stop = new AbortController();
  const release = Promise.withResolvers<void>();
  const engine = engineOf(10_000);
  const definition = stepOf(told, async () => {
    stop.abort(new Error("no longer wanted"));
    setImmediate(() => release.resolve());
    await release.promise;
  });
  await assert.rejects(engine.resume("r1", definition, stop.signal), /no longer wanted/);
  assert.deepEqual(told, ["begins 1", "acts 1"]);
  engine.cancel("r1");
  await engine.resume("r1", definition, never);
  assert.deepEqual(told, ["begins 1", "acts 1", "undone"]);
});

test("an undoing that hangs ends at its limit, and the run stays open for another try", async () => {
  const database = openJournal(":memory:");
  const limits = { undoMs: 20, abandonMs: 20 };
  const engine = new RunEngine({ database, nowMs: () => 0, sleep: async () => undefined, ...limits });
  engine.record({ runId: "r1", machineId: "m1", kind: "machine-start", input: {} });
  const told: string[] = [];
  const definition = stepOf(told, () => Promise.reject(new Error("no")), 1);
  const [step] = definition.steps;
  assert.ok(step !== undefined);
  const hangs = { ...definition, steps: [{ ...step, undo: () => new Promise<void>(() => undefined) }] };
  await assert.rejects(engine.resume("r1", hangs, never), { code: "deadline_exceeded" });
  assert.deepEqual(engine.unfinished(), [{ runId: "r1", kind: "machine-start" }]);
  assert.equal((await engine.resume("r1", definition, never)).kind, "failed");
  assert.equal(told.at(-1), "undone");
});
