import assert from "node:assert/strict";
import { test } from "node:test";
import { checkSpecs } from "@hearth/machine";
import { machineRow } from "../testing/machine-row.ts";
import { checkSeen, checksOf, judge, pauseMs, type Seen, specsOf, textEveryMs } from "./machine-checks.ts";

const now = 1_700_000_000_000;
const checks = { web: { type: "http", port: 80, interval: "20s", grace_period: "5s" } };
const config = { image: "a", guest: { cpu_kind: "shared", cpus: 1, memory_mb: 256 }, checks } as const;
const row = machineRow({ config, state: "started", boot: "b1", startedMs: now });
const [spec] = checkSpecs(config);
assert.ok(spec);
const good: Seen = { passing: true, output: "200 OK" };
const bad: Seen = { passing: false, output: "503" };

test("a failure is a warning in the grace of the start, and critical after it; a success counts at once", () => {
  assert.equal(judge(spec, bad, 4_999), "warning");
  assert.equal(judge(spec, bad, 5_000), "critical");
  assert.equal(judge(spec, good, 0), "passing");
});

test("a program that is not up yet is looked at often, and any other at the check's interval", () => {
  assert.equal(pauseMs(spec, bad, 0), 1_000);
  assert.equal(pauseMs(spec, bad, 5_000), 20_000);
  assert.equal(pauseMs(spec, good, 0), 20_000);
  assert.equal(pauseMs({ ...spec, intervalMs: 500 }, bad, 0), 500);
});

test("what has no result of this boot is a warning and never missing", () => {
  const updated_at = new Date(now).toISOString();
  const waiting = { name: "web", status: "warning", output: "There is no result yet.", updated_at };
  assert.deepEqual(checksOf(row), [waiting]);
  const results = { web: { status: "passing", output: "200 OK", updatedMs: now } } as const;
  assert.equal(checksOf({ ...row, checks: results })[0]?.status, "passing");
  for (const state of ["created", "starting", "stopping", "stopped", "failed"] as const) {
    const [one] = checksOf({ ...row, state, checks: results });
    assert.deepEqual([one?.status, one?.output], ["warning", "The machine is not started."]);
  }
});

test("the record changes when a status changes, and not with each probe", () => {
  const first = checkSeen(row, "b1", spec, good, now);
  assert.deepEqual(first?.set.checks, { web: { status: "passing", output: "200 OK", updatedMs: now } });
  const known = { ...row, ...first?.set };
  assert.equal(checkSeen(known, "b1", spec, good, now + 60_000), undefined);
  const worse = checkSeen(known, "b1", spec, bad, now + 60_000);
  assert.equal(worse?.set.checks?.web?.status, "critical");
});

test("a text that is always another one is told of seldom", () => {
  const checks = { web: { status: "critical", output: "1", updatedMs: now } } as const;
  const seen = { passing: false, output: "2" };
  const known = { ...row, startedMs: now - 60_000, checks };
  assert.equal(checkSeen(known, "b1", spec, seen, now + textEveryMs - 1), undefined);
  assert.equal(checkSeen(known, "b1", spec, seen, now + textEveryMs)?.set.checks?.web?.output, "2");
  assert.ok(checkSeen(known, "b1", spec, seen, now - 1), "also when the clock was put back");
});

test("what was seen of another boot, or of a machine that is not started any more, changes nothing", () => {
  assert.equal(checkSeen(row, "b0", spec, good, now), undefined);
  assert.equal(checkSeen({ ...row, state: "stopping" }, "b1", spec, good, now), undefined);
});

test("a check of an old record that nobody can run is left out", () => {
  assert.deepEqual(specsOf({ config: { ...config, checks: { odd: { type: "script" } } } }), []);
});
