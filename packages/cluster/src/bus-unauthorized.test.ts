import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { connectBus } from "./bus.ts";
import { ensureUserKey } from "./credentials.ts";
import { startTestCluster } from "./testing/test-cluster.ts";

test("a key that no server of a cluster knows is refused by name, at once and while it is tried again", {
  timeout: 60_000,
}, async () => {
  await using cluster = await startTestCluster();
  const seedPath = join(cluster.dir, "stranger.seed");
  ensureUserKey(seedPath);
  const { servers } = cluster.keeperLogin;
  const isUnauthorized = (error: unknown) =>
    error instanceof HearthError && error.code === "bus_unauthorized";
  const limit = AbortSignal.timeout(20_000);
  const late = new Promise<never>((_, reject) => limit.addEventListener("abort", () => reject(limit.reason)));
  await assert.rejects(Promise.race([connectBus({ servers, seedPath }), late]), isUnauthorized);
  const giveUp = new AbortController();
  const told = Promise.withResolvers<HearthError>();
  const trying = connectBus({ servers, seedPath, retryUntil: giveUp.signal, onRefused: told.resolve });
  assert.ok(isUnauthorized(await Promise.race([told.promise, late])));
  giveUp.abort();
  await assert.rejects(trying, isUnauthorized);
});
