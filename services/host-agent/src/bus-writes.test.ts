import assert from "node:assert/strict";
import { test } from "node:test";
import { mustRestart } from "./bus-writes.ts";

const lost = {
  nodeId: "n1",
  health: { copies: 3, current: 3, leader: "n2" },
  silentMs: 16_000,
  sinceRestartMs: Number.POSITIVE_INFINITY,
};

test("a server whose clients' writes are not answered starts again when the others can go on without it", () => {
  assert.equal(mustRestart(lost), true);
  assert.equal(mustRestart({ ...lost, silentMs: 9_000 }), false, "one answer may be lost");
  assert.equal(mustRestart({ ...lost, sinceRestartMs: 30_000 }), false, "it has only just started");
  assert.equal(mustRestart({ ...lost, health: undefined }), false, "nothing is heard of the state");
  assert.equal(mustRestart({ ...lost, health: { copies: 3, current: 3 } }), false, "nobody leads");
  assert.equal(mustRestart({ ...lost, health: { ...lost.health, leader: "n1" } }), false, "it leads itself");
  assert.equal(
    mustRestart({ ...lost, health: { ...lost.health, current: 2 } }),
    false,
    "one of two is needed",
  );
});
