import assert from "node:assert/strict";
import { test } from "node:test";
import { runFrontDoor } from "./front-door.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

test("an app is served, woken, entered by ssh, and updated under load without the loss of a request", {
  skip,
  timeout: 900_000,
}, async (t) => {
  const report = await runFrontDoor({ withWrk: false });
  t.diagnostic(JSON.stringify(report));
  assert.deepEqual(report.found, []);
  assert.equal(report.ok, true);
  assert.equal(report.dropped, 0);
  assert.ok(report.posts > 0 && report.woke_ms > 0);
});
