import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { exitEvent, type MachineEvent, type MachineExit, newestEvents } from "./record.ts";
import { decideRestart, restartWindowMs } from "./restart-policy.ts";

const now = 1_700_000_000_000;
const clean: MachineExit = {
  exitCode: 0,
  signal: 0,
  oomKilled: false,
  requestedStop: false,
  exitedAtMs: now,
};
const failed: MachineExit = { ...clean, exitCode: 1 };

test("each policy", () => {
  assert.deepEqual(decideRestart({ policy: "no" }, failed, []), { kind: "stop", reason: "policy" });
  assert.deepEqual(decideRestart(undefined, clean, []), { kind: "stop", reason: "clean_exit" });
  assert.deepEqual(decideRestart(undefined, failed, []), { kind: "restart", afterMs: 100, attempt: 1 });
  assert.equal(decideRestart(undefined, { ...clean, oomKilled: true }, []).kind, "restart");
  assert.equal(decideRestart(undefined, { ...clean, error: "the VM vanished" }, []).kind, "restart");
  assert.equal(decideRestart({ policy: "always" }, clean, []).kind, "restart");
});

test("a stop that was asked for is never undone by a policy", () => {
  for (const policy of ["no", "on-failure", "always"] as const)
    assert.deepEqual(decideRestart({ policy }, { ...failed, requestedStop: true }, []), {
      kind: "stop",
      reason: "requested",
    });
});

test("retries are counted within the window only", () => {
  const recent = Array.from({ length: 10 }, (_, index) => now - index);
  assert.deepEqual(decideRestart(undefined, failed, recent), { kind: "stop", reason: "retries_exhausted" });
  assert.deepEqual(decideRestart({ max_retries: 0 }, failed, []), {
    kind: "stop",
    reason: "retries_exhausted",
  });
  const old = recent.map((at) => at - restartWindowMs);
  assert.deepEqual(decideRestart(undefined, failed, old), { kind: "restart", afterMs: 100, attempt: 1 });
});

test("delays grow and stay within their limit", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2_000 }), (count) => {
      const decide = (restarts: number) =>
        decideRestart({ policy: "always" }, failed, Array<number>(restarts).fill(now));
      const [one, next] = [decide(count), decide(count + 1)];
      assert.ok(one.kind === "restart" && next.kind === "restart");
      assert.ok(one.afterMs <= next.afterMs && next.afterMs <= 30_000);
    }),
  );
});

test("an exit event has the forms that typed clients read", () => {
  const event = exitEvent({ ...clean, exitCode: 0, signal: 9, oomKilled: true }, true);
  assert.equal(event.exit_code, 137);
  assert.equal(event.guest_signal, 9);
  assert.equal(event.exited_at, "2023-11-14T22:13:20.000Z");
  assert.equal(event.restarting, true);
});

test("events are answered newest first, at most fifty", () => {
  const events = Array.from({ length: 60 }, (_, index): MachineEvent => {
    return { id: `${index}`, type: "start", status: "started", source: "flyd", timestamp: index };
  });
  assert.equal(newestEvents(events).length, 20);
  assert.equal(newestEvents(events, 100).length, 50);
  assert.equal(newestEvents(events)[0]?.id, "59");
});
