import assert from "node:assert/strict";
import { test } from "node:test";
import { readSettings, settingsEnvironment } from "./settings.ts";

test("labels and the CPU ratio of a node come from its environment, an option before it, and reach its services", () => {
  const env = { HEARTH_LABELS: "disk=nvme, team/zone=a", HEARTH_CPU_OVERCOMMIT: "4" };
  const settings = readSettings({}, env);
  assert.deepEqual(settings.labels, { disk: "nvme", "team/zone": "a" });
  assert.equal(settings.cpuOvercommit, 4);
  assert.deepEqual(readSettings({}, settingsEnvironment(settings)), settings);
  assert.deepEqual(readSettings({ labels: { disk: "ssd" } }, env).labels, { disk: "ssd" });
  assert.deepEqual(readSettings({}, {}).labels, {});
});

test("what is no label and no ratio is refused by the name of its setting", () => {
  for (const HEARTH_LABELS of ["disk", "=x", "a b=c", "a=b c", `a=${"x".repeat(64)}`])
    assert.throws(() => readSettings({}, { HEARTH_LABELS }), /HEARTH_LABELS/, HEARTH_LABELS);
  for (const HEARTH_CPU_OVERCOMMIT of ["0", "1.5", "x", "1025"])
    assert.throws(() => readSettings({}, { HEARTH_CPU_OVERCOMMIT }), /HEARTH_CPU_OVERCOMMIT/);
});
