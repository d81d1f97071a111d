import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readIdentity } from "./node-identity.ts";
import { readSettings, settingsEnvironment } from "./settings.ts";

test("the address of a host has one text, however it was written", () => {
  const read = (HEARTH_ADDRESS: string) => readSettings({}, { HEARTH_ADDRESS }).address;
  assert.equal(read("2001:DB8:0:0::00A1"), "2001:db8::a1");
  assert.equal(read("192.0.2.1"), "192.0.2.1");
  for (const address of ["0:0:0:0:0:0:0:1", "FE80::1", "::ffff:127.0.0.1", "fd00::1/64", "host"])
    assert.throws(() => read(address), /HEARTH_ADDRESS/, address);
});

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
