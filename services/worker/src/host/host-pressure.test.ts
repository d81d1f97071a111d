import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryUsed, pressureProblems, pressureWarnings, readPressure } from "./host-pressure.ts";

const calm = { memory_used: 40, disk_used: 20, disk_free_mb: 90_000, cpu_waiting: 3 };

test("a host with room is no problem, and a full disk or memory is one that says what to do", () => {
  assert.deepEqual(pressureProblems(calm), []);
  assert.match(pressureProblems({ ...calm, disk_used: 96 })[0] ?? "", /96 % used.*make room/);
  assert.match(pressureProblems({ ...calm, disk_free_mb: 5 })[0] ?? "", /5 MB left/);
  assert.match(pressureProblems({ ...calm, memory_used: 97 })[0] ?? "", /memory is 97 % used/);
});

test("busy processors are a warning, and a kernel that does not count is believed nothing", () => {
  assert.deepEqual(pressureWarnings(calm), []);
  assert.equal(pressureWarnings({ ...calm, cpu_waiting: 90 }).length, 1);
  const { cpu_waiting: _, ...unknown } = calm;
  assert.deepEqual(pressureWarnings(unknown), []);
});

test("memory counts as used when no program could have it", () => {
  assert.equal(memoryUsed("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  250 kB\n"), 75);
});

test("this host says something of itself, and a directory that is not there says nothing", () => {
  assert.ok((readPressure("/")?.disk_free_mb ?? -1) >= 0);
  assert.equal(readPressure("/no/such/directory"), undefined);
});
