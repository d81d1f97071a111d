import assert from "node:assert/strict";
import { test } from "node:test";
import type { ObservedLink } from "@hearth/network";
import { stateOf } from "./mesh-view.ts";
import { MeshWatch } from "./mesh-watch.ts";

const link = (handshakeAtSeconds: number, rxBytes: number): ObservedLink => ({
  ...{ name: "l", mtu: 1440, isUp: true, addresses: [], publicKey: "own", port: 1 },
  peers: [
    {
      ...{ publicKey: "k", endpoint: undefined, allowedIps: [], keepaliveSeconds: 10 },
      ...{ handshakeAtSeconds, rxBytes, txBytes: 0 },
    },
  ],
});

function watchAt() {
  const now = { monotonicMs: 1_000_000, wallMs: 2_000_000_000 };
  const watch = new MeshWatch({ monotonicMs: () => now.monotonicMs, wallMs: () => now.wallMs });
  const pass = (ms: number): void => {
    now.monotonicMs += ms;
    now.wallMs += ms;
  };
  return { now, watch, pass, second: () => Math.floor(now.wallMs / 1000) };
}

test("a peer is heard when its counter grows, and a session is fresh for three minutes", () => {
  const { watch, pass, second } = watchAt();
  watch.note([link(0, 0)]);
  assert.deepEqual([watch.isFresh("l", "k"), watch.handshakeAgeMs("l", "k")], [false, undefined]);
  pass(5_000);
  const at = second();
  watch.note([link(at, 148)]);
  assert.deepEqual(
    [watch.isFresh("l", "k"), watch.handshakeAgeMs("l", "k"), watch.heardAgeMs("l", "k")],
    [true, 0, 0],
  );
  pass(30_000);
  watch.note([link(at, 148)]);
  assert.deepEqual([watch.handshakeAgeMs("l", "k"), watch.heardAgeMs("l", "k")], [30_000, 30_000]);
  watch.note([link(at, 180)]);
  assert.deepEqual([watch.handshakeAgeMs("l", "k"), watch.heardAgeMs("l", "k")], [30_000, 0]);
  pass(150_000);
  watch.note([link(at, 180)]);
  assert.equal(watch.isFresh("l", "k"), false);
});

test("a clock that jumps makes no peer older or younger", () => {
  const { now, watch, pass, second } = watchAt();
  watch.note([link(0, 0)]);
  const at = second();
  watch.note([link(at, 1)]);
  now.wallMs += 3_600_000;
  pass(1_000);
  watch.note([link(at, 1)]);
  assert.equal(watch.handshakeAgeMs("l", "k"), 1_000);
});

test("what an agent finds when it starts is as old as the clock says, and nobody is heard yet", () => {
  const { watch, second } = watchAt();
  watch.note([link(second() - 90, 5_000)]);
  assert.deepEqual([watch.handshakeAgeMs("l", "k"), watch.heardAgeMs("l", "k")], [90_000, undefined]);
  assert.equal(watch.isFresh("l", "k"), true);
  watch.note([]);
  assert.equal(watch.isFresh("l", "k"), false, "who is no peer any more is forgotten");
});

test("a peer is connected, silent, or not there yet, by what was heard last", () => {
  const never = Number.POSITIVE_INFINITY;
  const state = (handshake: number, heard: number, hasKey = true) => stateOf({ hasKey, handshake, heard });
  assert.equal(state(never, never), "connecting");
  assert.equal(state(0, never), "connected");
  assert.equal(state(100_000, 3_000), "connected");
  assert.equal(state(25_000, 25_000), "silent");
  assert.equal(state(0, 0, false), "no_key");
});
