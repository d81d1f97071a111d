import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readIdentity } from "./node-identity.ts";
import { readSettings, settingsEnvironment } from "./settings.ts";

test("labels and the CPU ratio of a node come from its environment, an option before it, and reach its services", () => {
  const env = { HEARTH_LABELS: "disk=nvme, team/zone=a", HEARTH_CPU_OVERCOMMIT: "4" };
  const settings = readSettings({}, env);
  assert.deepEqual(settings.labels, { disk: "nvme", "team/zone": "a" });
  assert.equal(settings.cpuOvercommit, 4);
  assert.deepEqual(readSettings({}, settingsEnvironment(settings)), settings);
  assert.deepEqual(readSettings({ labels: "disk=ssd" }, env).labels, { disk: "ssd" });
  assert.equal(readSettings({}, {}).labels, undefined);
});

test("a host keeps the labels that it was given until it is given others", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "hearth-labels-"));
  try {
    assert.deepEqual(readIdentity(dataDir, { labels: { disk: "nvme" } }).labels, { disk: "nvme" });
    assert.deepEqual(readIdentity(dataDir).labels, { disk: "nvme" });
    assert.deepEqual(readIdentity(dataDir, { labels: { disk: "ssd" } }).labels, { disk: "ssd" });
  } finally {
    await rm(dataDir, { recursive: true });
  }
});

test("what is no label and no ratio is refused by the name of its setting", () => {
  for (const HEARTH_LABELS of ["disk", "=x", "a b=c", "a=b c", `a=${"x".repeat(64)}`])
    assert.throws(() => readSettings({}, { HEARTH_LABELS }), /HEARTH_LABELS/, HEARTH_LABELS);
  for (const HEARTH_CPU_OVERCOMMIT of ["0", "1.5", "x", "1025"])
    assert.throws(() => readSettings({}, { HEARTH_CPU_OVERCOMMIT }), /HEARTH_CPU_OVERCOMMIT/);
});
