import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { exitEvent, type MachineEvent, type MachineExit, newestEvents } from "./record.ts";
import {
  decideRestart,
  firstDelayMs,
  healthyRunMs,
  longestDelayMs,
  rememberedRestarts,
  restartsInARow,
} from "./restart-policy.ts";

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

/** Lives through crashes as a worker does: each run lasts so long, and the next begins after the delay. */
function crashes(policy: Parameters<typeof decideRestart>[0], runs: readonly number[]) {
  let restarts: readonly number[] = [];
  let startedMs = now;
  return runs.map((ranMs) => {
    const exit = { ...failed, exitedAtMs: startedMs + ranMs };
    restarts = restartsInARow(restarts, exit, startedMs);
    const decision = decideRestart(policy, exit, restarts);
    if (decision.kind === "stop") return decision.reason;
    restarts = [...restarts, exit.exitedAtMs];
    startedMs = exit.exitedAtMs + decision.afterMs;
    return decision.afterMs;
  });
}

test("retries are counted in a row, however long they take, and all of them are allowed", () => {
  const each = Array<number>(31).fill(20_000);
  const lives = crashes({ policy: "on-failure", max_retries: 30 }, each);
  assert.equal(lives.indexOf("retries_exhausted"), 30);
  assert.equal(crashes(undefined, each).indexOf("retries_exhausted"), 10);
  assert.deepEqual(crashes({ max_retries: 0 }, [1]), ["retries_exhausted"]);
  assert.ok(!crashes({ policy: "always", max_retries: 1 }, each).includes("retries_exhausted"));
});

test("a run that was long enough forgives what was before it, and a shorter one does not", () => {
  assert.deepEqual(crashes(undefined, [1, 1, healthyRunMs - 1, 1]), [100, 200, 400, 800]);
  assert.deepEqual(crashes(undefined, [1, 1, healthyRunMs, 1]), [100, 200, 100, 200]);
  assert.deepEqual(restartsInARow([1, 2], failed, null), [1, 2], "when nobody knows how long it ran");
});

test("no more restarts are remembered than are of use", () => {
  const many = crashes({ policy: "always" }, Array<number>(rememberedRestarts + 50).fill(1));
  assert.ok(many.every((afterMs) => typeof afterMs === "number"));
  const kept = restartsInARow(Array<number>(5_000).fill(now), failed, now);
  assert.equal(kept.length + 1, rememberedRestarts);
});

test("delays grow and stay within their limit", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2_000 }), (count) => {
      const decide = (restarts: number) =>
        decideRestart({ policy: "always" }, failed, Array<number>(restarts).fill(now));
      const [one, next] = [decide(count), decide(count + 1)];
      assert.ok(one.kind === "restart" && next.kind === "restart");
      assert.ok(next.afterMs === Math.min(longestDelayMs, 2 * one.afterMs), "twice the one before");
      assert.ok(one.afterMs >= firstDelayMs && next.afterMs <= longestDelayMs);
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
