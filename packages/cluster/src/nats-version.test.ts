import assert from "node:assert/strict";
import { test } from "node:test";
import { natsCan, natsServerVersion } from "./nats-version.ts";

test("what a server can is told by its version, and one that is not known can nothing", () => {
  for (const version of ["2.9.17", "2.9.29", "2.10.0", "3.0.0"])
    assert.equal(natsCan("tellsLateServers", version), true, version);
  for (const version of ["2.9.16", "2.8.30", "1.99.99", "another", undefined])
    assert.equal(natsCan("tellsLateServers", version), false, version);
  assert.equal(natsCan("canSyncAlways", "2.10.0"), true);
  assert.equal(natsCan("canSyncAlways", "2.9.99"), false);
});

test("this host's server says which it is, and one that is not there says nothing", async () => {
  assert.match(String(await natsServerVersion()), /^\d+\.\d+\.\d+$/);
  assert.equal(await natsServerVersion("/nowhere/nats-server"), undefined);
});
