/** The placement measurement from end to end, in a region of a size that a test can afford. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { repositoryRoot } from "@hearth/testkit";

test("the simulation of a small region places, rebuilds both ways, and agrees with the scan of every host", {
  timeout: 120_000,
}, async () => {
  const flags = ["placement", "--hosts=60", "--machines=2000", "--decisions=300", "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(repositoryRoot, "bench/mod.ts"),
    ...flags,
  ]);
  const result = JSON.parse(stdout) as Record<string, number | string>;
  assert.match(String(result.simulation), /without hosts/);
  assert.deepEqual([result.hosts, result.machines, result.disagreements], [60, 2000, 0]);
  const measured = ["placements_per_s", "p50_ms", "p99_ms", "rss_mb", "baseline_placements_per_s"];
  for (const name of [...measured, "rebuild_from_stream_s", "rebuild_from_disk_s"])
    assert.equal(typeof result[name], "number", name);
  assert.equal(Number(result.placed) + Number(result.refused), 300);
});
