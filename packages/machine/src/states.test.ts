import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  canApply,
  isSettled,
  type MachineState,
  machineStateEdges,
  machineStateEvents,
  machineStates,
  nextState,
} from "./states.ts";

const anyEvents = fc.array(fc.constantFrom(...machineStateEvents), { maxLength: 60 });

function reachable(from: MachineState): Set<MachineState> {
  const seen = new Set<MachineState>([from]);
  for (const state of seen) for (const next of Object.values(machineStateEdges[state])) seen.add(next);
  return seen;
}

test("an event is taken exactly when the table lists it, else refused with its name", () => {
  fc.assert(
    fc.property(fc.constantFrom(...machineStates), fc.constantFrom(...machineStateEvents), (state, event) => {
      if (canApply(state, event)) assert.ok(machineStates.includes(nextState(state, event)));
      else assert.throws(() => nextState(state, event), { code: "illegal_transition" });
    }),
  );
});

test("no sequence of events leaves destroyed, or leaves destroying for anything else", () => {
  fc.assert(
    fc.property(anyEvents, (events) => {
      let state: MachineState = "created";
      for (const event of events) {
        if (!canApply(state, event)) continue;
        const next = nextState(state, event);
        if (state === "destroying") assert.equal(next, "destroyed");
        assert.notEqual(state, "destroyed");
        state = next;
      }
    }),
  );
});

test("every state is reachable from created and can reach destroyed", () => {
  assert.deepEqual([...reachable("created")].sort(), [...machineStates].sort());
  for (const state of machineStates) assert.ok(reachable(state).has("destroyed"), state);
});

test("every state that does not settle can reach one that does by itself", () => {
  for (const state of machineStates.filter((each) => !isSettled(each)))
    assert.ok(Object.values(machineStateEdges[state]).some(isSettled), state);
});

test("only a version that is being started is rolled back", () => {
  assert.deepEqual(
    machineStates.filter((state) => canApply(state, "roll_back")),
    ["starting"],
  );
});

test("the usual paths", () => {
  const walk = (start: MachineState, ...events: Parameters<typeof nextState>[1][]): MachineState =>
    events.reduce<MachineState>((state, event) => nextState(state, event), start);
  assert.equal(walk("created", "start", "booted", "stop", "exited"), "stopped");
  assert.equal(walk("started", "suspend", "suspend_completed", "start", "booted"), "started");
  assert.equal(walk("stopped", "replace", "replace_completed"), "stopped");
  assert.equal(walk("started", "replace", "start", "booted"), "started");
  assert.equal(walk("started", "replace", "start", "roll_back", "start", "booted"), "started");
  assert.equal(walk("stopped", "replace", "start", "roll_back", "replace_completed"), "stopped");
  assert.equal(walk("failed", "destroy", "destroy_completed"), "destroyed");
});
