import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { openJournal } from "./journal.ts";
import { Ledger } from "./ledger.ts";
import { RunEngine } from "./run-engine.ts";
import { runHistory } from "./run-history.ts";
import type { RunDefinition, Step, StepOutcome } from "./run-step.ts";

const never = new AbortController().signal;

/** A host with three switches. A crash is a `do` that has its effect and then never says so. */
function bench(overrides: Partial<Record<string, (host: Set<string>) => Promise<StepOutcome>>> = {}) {
  const host = new Set<string>();
  const effects: string[] = [];
  const step = (name: string): Step<{ on: boolean }> => ({
    name,
    limitMs: 200,
    maxAttempts: 3,
    inspect: async () => host.has(name),
    do: async () => {
      effects.push(name);
      const special = overrides[name];
      if (special !== undefined) return special(host);
      host.add(name);
      return { kind: "done" };
    },
    undo: async () => {
      host.delete(name);
      clock += 100; // undoing takes its time, which is none of the act's
    },
  });
  const definition: RunDefinition<{ on: boolean }> = {
    kind: "machine-start",
    steps: [step("disk"), step("network"), step("vmm")],
  };
  const database = openJournal(":memory:");
  let clock = 0;
  const limits = { undoMs: 200, abandonMs: 200 };
  const engine = new RunEngine({ database, nowMs: () => clock++, sleep: async () => undefined, ...limits });
  const record = () =>
    engine.record({ runId: "r1", machineId: "m1", kind: "machine-start", input: { on: true } });
  return { host, effects, definition, database, engine, record };
}

test("a run does its steps in order, and once", async () => {
  const { engine, record, definition, effects, host } = bench();
  record();
  assert.deepEqual(await engine.resume("r1", definition, never), { kind: "done" });
  assert.deepEqual(await engine.resume("r1", definition, never), { kind: "done" });
  assert.deepEqual(effects, ["disk", "network", "vmm"]);
  assert.deepEqual([...host], ["disk", "network", "vmm"]);
  assert.deepEqual(engine.unfinished(), []);
});

test("after a crash past any effect, the next worker goes on and makes no effect twice", async () => {
  for (const crashed of ["disk", "network", "vmm"]) {
    const stop = new AbortController();
    const { engine, record, definition, effects, host } = bench({
      [crashed]: async (switches) => {
        switches.add(crashed);
        stop.abort(new Error("killed"));
        return { kind: "done" };
      },
    });
    record();
    await assert.rejects(engine.resume("r1", definition, stop.signal), /killed/);
    assert.deepEqual(engine.unfinished(), [{ runId: "r1", kind: "machine-start" }]);
    assert.deepEqual(await engine.resume("r1", definition, never), { kind: "done" });
    assert.deepEqual(effects, ["disk", "network", "vmm"], crashed);
    assert.equal(host.size, 3);
  }
});

test("an abort undoes everything that was begun, and the run keeps its step and reason", async () => {
  const { engine, record, definition, host } = bench({
    vmm: async (switches) => {
      switches.add("vmm");
      return { kind: "abort", code: "machine_memory_too_small", reason: "64 MiB do not boot", blame: "user" };
    },
  });
  record();
  const expected = {
    kind: "failed",
    code: "machine_memory_too_small",
    step: "vmm",
    reason: "64 MiB do not boot",
    attempts: 1,
    consoleTail: "",
  };
  assert.deepEqual(await engine.resume("r1", definition, never), expected);
  assert.equal(host.size, 0);
  assert.deepEqual(await engine.resume("r1", definition, never), expected, "asked again, it says the same");
});

test("a step that throws is tried again, and not for ever", async () => {
  const { engine, record, definition, effects } = bench({
    network: async () => {
      throw new HearthError("network_exhausted");
    },
  });
  record();
  const outcome = await engine.resume("r1", definition, never);
  assert.equal(outcome.kind, "failed");
  assert.match(outcome.kind === "failed" ? outcome.reason : "", /^network_exhausted/);
  assert.deepEqual(effects, ["disk", "network", "network", "network"]);
});

test("a step that never answers ends at its limit", async () => {
  const { engine, record, definition } = bench({ disk: () => new Promise<never>(() => undefined) });
  record();
  const outcome = await engine.resume("r1", definition, never);
  assert.match(outcome.kind === "failed" ? outcome.reason : "", /^deadline_exceeded/);
});

test("what is told of a run is how long each act took, whatever was undone after it", async () => {
  const { engine, record, definition, database } = bench({
    network: async () => {
      throw new HearthError("network_exhausted");
    },
  });
  record();
  await engine.resume("r1", definition, never);
  const [run] = runHistory(database, "m1", { limit: 5, nowMs: 1_000 });
  assert.equal(run?.state, "failed");
  assert.deepEqual(
    [run?.error?.code, run?.error?.step, run?.error?.attempts],
    ["network_exhausted", "network", 3],
  );
  const told = run?.steps.map(({ name, state, attempts, duration_ms }) => [
    name,
    state,
    attempts,
    duration_ms,
  ]);
  // The clock of the bench counts how often it is asked: begun, begun again twice, ended.
  assert.deepEqual(told, [
    ["disk", "undone", 1, 1],
    ["network", "failed", 3, 3],
  ]);
  assert.match(run?.steps[1]?.reason ?? "", /^network_exhausted: /);
  assert.ok(run?.ended_at !== null && (run?.duration_ms ?? 0) >= 200, "undoing is part of the run");
});

test("a run under way lasts until now, and the console is asked for before anything is undone", async () => {
  const asked: (readonly string[])[] = [];
  const { definition, database, record, host } = bench({
    vmm: async (switches) => {
      switches.add("vmm");
      return { kind: "abort", code: "vmm_start_failed", reason: "no", blame: "platform" };
    },
  });
  record();
  const [open] = runHistory(database, "m1", { limit: 1, nowMs: 500 });
  assert.deepEqual(
    [open?.state, open?.ended_at, open?.duration_ms, open?.error],
    ["running", null, 500, null],
  );
  const engine = new RunEngine({
    database,
    nowMs: () => 600,
    sleep: async () => undefined,
    consoleTail: async (_machineId, begun) => {
      asked.push(begun);
      return [...host].join();
    },
  });
  const outcome = await engine.resume("r1", definition, never);
  assert.equal(outcome.kind === "failed" && outcome.consoleTail, "disk,network,vmm");
  assert.deepEqual(asked, [["disk", "network", "vmm"]]);
  const [run] = runHistory(database, "m1", { limit: 1, nowMs: 700 });
  assert.equal(run?.error?.console_tail, "disk,network,vmm");
});

test("a machine has one open run at a time, and recording the same one twice is fine", () => {
  const { engine, record } = bench();
  record();
  record();
  assert.throws(
    () => engine.record({ runId: "r2", machineId: "m1", kind: "machine-stop", input: {} }),
    (thrown) => thrown instanceof HearthError && thrown.code === "conflict",
  );
});

test("a resource has one owner, and only its owner releases it", () => {
  const ledger = new Ledger(openJournal(":memory:"), () => 0);
  const disk = { kind: "disk", key: "h1a", machineId: "m1" };
  ledger.claim(disk);
  ledger.claim(disk);
  assert.throws(() => ledger.claim({ ...disk, machineId: "m2" }), HearthError);
  ledger.release({ ...disk, machineId: "m2" });
  assert.deepEqual(ledger.ofMachine("m1"), [disk]);
  ledger.release(disk);
  ledger.release(disk);
  assert.deepEqual(ledger.ofMachine("m1"), []);
});
