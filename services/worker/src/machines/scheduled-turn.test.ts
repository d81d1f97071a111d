import assert from "node:assert/strict";
import { test } from "node:test";
import { machineStates, nextTurnMs } from "@hearth/machine";
import fc from "fast-check";
import { machineRow } from "../testing/machine-row.ts";
import { nextAction, type Observed } from "./next-action.ts";
import { turnAfter, turnBegun, turnPostponed } from "./scheduled-turn.ts";

const created = 1_700_000_000_000;
const hour = 3_600_000;
const config = { ...machineRow().config, schedule: "hourly" } as const;
const turn = { schedule: "hourly", dueMs: created + hour } as const;
const stopped = machineRow({ state: "stopped", desired: "stopped", config, turn });
const handle = {} as NonNullable<ReturnType<typeof machineRow>["handle"]>;
const running = { ...stopped, state: "started", desired: "started", handle } as const;
const observed = (nowMs: number, changes: Partial<Observed> = {}): Observed => ({
  ...{
    nowMs,
    openRun: undefined,
    ended: false,
    draining: false,
    unpublished: false,
    staleImages: false,
    staleEgress: false,
    mayRun: true,
  },
  limits: { destroyedFactMs: 1, destroyedRowMs: 1 },
  ...changes,
});

test("a machine at rest waits for its turn and begins it when it is due", () => {
  const wait = { kind: "wait", untilMs: turn.dueMs };
  for (const state of ["created", "stopped", "failed", "suspended"] as const) {
    assert.deepEqual(nextAction({ ...stopped, state }, observed(turn.dueMs - 1)), wait);
    assert.deepEqual(nextAction({ ...stopped, state }, observed(turn.dueMs)), { kind: "begin-turn" });
  }
});

test("a machine that runs through its turn has the next one", () => {
  assert.deepEqual(nextAction(running, observed(turn.dueMs - 1)), { kind: "wait", untilMs: turn.dueMs });
  assert.deepEqual(nextAction(running, observed(turn.dueMs)), { kind: "plan-turn" });
  assert.deepEqual(turnAfter(running, turn.dueMs), { schedule: "hourly", dueMs: created + 2 * hour });
});

test("what has ended by its turn is brought down first, and what is on its way goes on", () => {
  const ended = nextAction(running, observed(turn.dueMs, { ended: true }));
  assert.deepEqual(ended, { kind: "run", run: "machine-down" });
  const starting = { ...stopped, state: "starting" } as const;
  assert.deepEqual(nextAction(starting, observed(turn.dueMs)), { kind: "run", run: "machine-start" });
});

test("the record follows a schedule that comes, changes or goes", () => {
  const plan = { kind: "plan-turn" };
  assert.deepEqual(nextAction({ ...stopped, turn: null }, observed(created)), plan);
  const daily = { ...stopped, config: { ...config, schedule: "daily" as const } };
  assert.deepEqual(nextAction(daily, observed(created)), plan);
  assert.equal(turnAfter(daily, created)?.dueMs, created + 24 * hour);
  const none = { ...stopped, config: machineRow().config };
  assert.deepEqual(nextAction(none, observed(created)), plan);
  assert.equal(turnAfter(none, created), null);
  assert.deepEqual(nextAction({ ...none, turn: null }, observed(turn.dueMs)), { kind: "rest" });
});

test("nothing begins on a host that goes down, nor of a machine that is destroyed", () => {
  assert.deepEqual(nextAction(stopped, observed(turn.dueMs, { draining: true })), { kind: "rest" });
  for (const state of ["destroying", "destroyed"] as const) {
    const { kind } = nextAction({ ...stopped, state }, observed(turn.dueMs));
    assert.notEqual(kind, "begin-turn");
    assert.notEqual(kind, "plan-turn");
  }
});

test("a turn makes the machine wanted and names the next one, of however many were missed", () => {
  const now = created + 7.5 * hour;
  const { set } = turnBegun(stopped, now);
  assert.deepEqual([set.state, set.desired, set.turn?.dueMs], ["starting", "started", created + 8 * hour]);
  assert.deepEqual(set.restarts, []);
});

test("a turn that finds no room is tried again soon, and is no later than the next one", () => {
  assert.equal(turnPostponed(stopped, turn.dueMs)?.dueMs, turn.dueMs + 60_000);
  const next = created + 2 * hour;
  assert.equal(turnPostponed(stopped, next - 1_000)?.dueMs, next);
});

test("whatever a machine's state, planning a turn is no reason to plan it again", () => {
  const states = fc.constantFrom(...machineStates);
  const schedules = fc.constantFrom("hourly", "daily", "weekly", "monthly", undefined);
  fc.assert(
    fc.property(states, schedules, fc.nat(400 * 24 * hour), (state, schedule, laterMs) => {
      const nowMs = created + laterMs;
      const { schedule: _, ...rest } = config;
      const row = { ...stopped, state, config: schedule === undefined ? rest : { ...rest, schedule } };
      const planned = { ...row, turn: turnAfter(row, nowMs) };
      const { kind } = nextAction(planned, observed(nowMs));
      assert.ok(kind !== "plan-turn" && kind !== "begin-turn", kind);
      if (planned.turn !== null)
        assert.equal(planned.turn.dueMs, nextTurnMs(planned.turn.schedule, created, nowMs));
    }),
  );
});
