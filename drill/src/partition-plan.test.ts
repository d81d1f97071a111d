import assert from "node:assert/strict";
import { test } from "node:test";
import { serviceNames } from "@hearth/testkit";
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
      if ("service" in fault && (fault.service === "regional" || fault.service === "ssh"))
        assert.ok(fault.host <= shape.apis);
    }
  }
  const paused = plans.flat().flatMap((fault) => (fault.kind === "pause" ? [fault.service] : []));
  assert.deepEqual(new Set(paused), new Set(serviceNames), "each service is stopped for a while");
});

test("a plan of few kinds has each once, and holds none for longer than it is told", () => {
  const plan = planFaults(seeded(3), { ...shape, kinds: ["pause", "part"], longestHoldMs: 4_000 });
  assert.deepEqual(plan.map(({ kind }) => kind).sort(), ["part", "pause"]);
  assert.deepEqual(
    plan.map(({ holdMs }) => holdMs),
    [4_000, 4_000],
  );
});
