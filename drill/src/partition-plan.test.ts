import assert from "node:assert/strict";
import { test } from "node:test";
import { seeded } from "@hearth/worker";
import { planFaults } from "./partition-plan.ts";

const shape = { hosts: 3, apis: 2, forMs: 600_000 };

test("a seed replays the faults, one host is lost once, and nothing befalls what is not there", () => {
  const plans = Array.from({ length: 50 }, (_, seed) => planFaults(seeded(seed), shape));
  assert.deepEqual(planFaults(seeded(7), shape), plans[7]);
  assert.notDeepEqual(plans[7], plans[8]);
  for (const plan of plans) {
    assert.equal(plan.filter(({ kind }) => kind === "lose").length, 1);
    for (const fault of plan) {
      assert.ok(fault.host >= 1 && fault.host <= shape.hosts);
      if ("other" in fault) assert.ok(fault.other >= 1 && fault.other <= 3 && fault.other !== fault.host);
      if (fault.kind === "kill" && fault.service === "regional") assert.ok(fault.host <= shape.apis);
    }
  }
});
