import assert from "node:assert/strict";
import { test } from "node:test";
import { healthyRunMs, type MachineExit } from "@hearth/machine";
import { machineRow } from "../testing/machine-row.ts";
import { booted, settled } from "./settle.ts";

const now = 1_700_000_000_000;
const base = machineRow();
const crash: MachineExit = {
  ...{ exitCode: 1, signal: 0, oomKilled: false, requestedStop: false, exitedAtMs: now },
};
const configured = (config: object) => ({ ...base.config, ...config });
const ended = (exit: Partial<MachineExit>, changes: Parameters<typeof machineRow>[0] = {}) =>
  settled(machineRow({ exit: { ...crash, ...exit }, startedMs: now - 1_000, ...changes }), now);
const exitEventOf = (change: ReturnType<typeof settled>) =>
  change?.events?.find(({ type }) => type === "exit")?.request?.exit_event;

test("a crash is restarted after a delay that grows, and the event says so", () => {
  const first = ended({});
  assert.deepEqual(first?.set, {
    ...{ stop: null, exit: null, state: "starting", restarts: [now], startAtMs: now + 100 },
  });
  assert.equal(exitEventOf(first)?.restarting, true);
  assert.equal(first?.events?.find(({ type }) => type === "restart")?.request?.restart_count, 1);
  const third = ended({}, { restarts: [now - 2, now - 1] });
  assert.equal(third?.set.startAtMs, now + 400);
  assert.deepEqual(third?.set.restarts, [now - 2, now - 1, now]);
});

test("a healthy run forgives the restarts before it", () => {
  const restarts = Array<number>(9).fill(now - 1);
  const forgiven = ended({}, { restarts, startedMs: now - healthyRunMs });
  assert.deepEqual([forgiven?.set.restarts, forgiven?.set.startAtMs], [[now], now + 100]);
  const exhausted = ended({}, { restarts: [...restarts, now], startedMs: now - healthyRunMs + 1 });
  assert.deepEqual([exhausted?.set.state, exhausted?.set.restarts], ["stopped", []]);
});

test("an exit is told with its code, its signal, and what it was for", () => {
  const plain = exitEventOf(ended({ exitCode: 3 }));
  assert.deepEqual([plain?.exit_code, plain?.guest_signal, plain?.oom_killed], [3, -1, false]);
  const killed = exitEventOf(ended({ exitCode: 137, signal: 9 }));
  assert.deepEqual([killed?.exit_code, killed?.guest_signal, killed?.oom_killed], [137, 9, false]);
  const starved = exitEventOf(ended({ exitCode: 137, signal: 9, oomKilled: true }));
  assert.deepEqual([starved?.guest_signal, starved?.oom_killed], [9, true]);
  assert.equal(starved?.requested_stop, false);
});

test("an end that was asked for is told as such and is not restarted", () => {
  const stopped = ended({}, { state: "stopping", stop: {}, desired: "stopped" });
  assert.deepEqual([stopped?.set.state, exitEventOf(stopped)?.requested_stop], ["stopped", true]);
  assert.equal(exitEventOf(stopped)?.restarting, false);
  const again = ended({}, { state: "starting", stop: {} });
  assert.deepEqual([exitEventOf(again)?.requested_stop, exitEventOf(again)?.restarting], [true, true]);
});

test("a machine destroys itself when it has ended for good, and at no other time", () => {
  const config = configured({ auto_destroy: true });
  const over = ended({ exitCode: 0 }, { config });
  assert.deepEqual([over?.set.state, over?.set.desired], ["destroying", "destroyed"]);
  const asked = ended({}, { config, state: "stopping", stop: {}, desired: "stopped" });
  assert.equal(asked?.set.state, "destroying");
  const restarts = Array<number>(10).fill(now);
  assert.equal(ended({}, { config, restarts })?.set.state, "destroying", "its retries are used up");
  assert.equal(ended({}, { config })?.set.state, "starting", "it is restarted");
  const drained = ended({}, { config, state: "stopping", stop: {} });
  assert.equal(drained?.set.state, "stopped", "its host goes down and it is wanted");
  const always = configured({ auto_destroy: true, restart: { policy: "always" } });
  assert.equal(ended({ exitCode: 0 }, { config: always })?.set.state, "starting");
});

test("a start is noted with its time, and what checks saw of an earlier boot is forgotten", () => {
  const checks = { web: { status: "passing", output: "200 OK", updatedMs: 1 } } as const;
  assert.deepEqual(booted(machineRow({ state: "starting", checks }), now)?.set, {
    ...{ state: "started", rollback: null, startedMs: now, checks: null },
  });
  assert.equal(booted(machineRow({ state: "starting", stop: {} }), now), undefined);
});
