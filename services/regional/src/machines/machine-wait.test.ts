/** What a wait for a version answers, from the machine's fact alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FailedUpdate, MachineFact, MachineState } from "@hearth/machine";
import { outcomeOf } from "./machine-wait.ts";

const [v1, v2, v3] = ["01A", "01B", "01C"] as const;

function fact(version: string, state: MachineState, failed?: string): MachineFact {
  const failed_update = {
    ...{ version: failed, code: "image_not_found", step: "image", message: "There is no such image." },
  } as FailedUpdate;
  return {
    record: { id: "m", state, instance_id: version, events: [] },
    ...(failed === undefined ? {} : { failed_update }),
  } as unknown as MachineFact;
}

const waits = (told: MachineFact, instanceId: string | undefined, state: MachineState = "started") => {
  const outcome = outcomeOf(told, { states: [state], timeoutMs: 1_000, instanceId });
  if (outcome === undefined) return "waits";
  return "error" in outcome ? outcome.error.code : outcome.state;
};

test("a version that was rolled back is answered at once, also on the way back", () => {
  for (const state of ["replacing", "starting", "started", "stopped", "failed"] as const)
    assert.equal(waits(fact(v1, state, v2), v2), "update_rolled_back", state);
  const outcome = outcomeOf(fact(v1, "started", v2), { states: ["started"], timeoutMs: 1, instanceId: v2 });
  assert.ok(outcome !== undefined && "error" in outcome);
  assert.match(outcome.error.message, /01B could not start at image.*01A is back: There is no such image/);
});

test("a version between the one that is back and the one that failed will not come either", () => {
  assert.equal(waits(fact(v1, "started", v3), v2), "update_rolled_back");
});

test("an update after the one that failed is still on its way, and the version that is back is there", () => {
  assert.equal(waits(fact(v1, "started", v2), v3), "waits");
  assert.equal(waits(fact(v1, "started", v2), v1), "started");
  assert.equal(waits(fact(v1, "started", v2), undefined), "started");
  assert.equal(waits(fact(v1, "started"), v2), "waits");
  assert.equal(waits(fact(v3, "started"), v2), "conflict");
});

test("a version that failed with nothing to go back to ends the wait for it", () => {
  assert.equal(waits(fact(v2, "failed"), v2), "illegal_transition");
  assert.equal(waits(fact(v2, "failed"), v2, "failed"), "failed");
  assert.equal(waits(fact(v2, "failed"), undefined), "waits");
});
