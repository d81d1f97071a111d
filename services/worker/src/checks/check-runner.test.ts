import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { CheckSpec, Probe } from "@hearth/machine";
import { ManualClock } from "../testing/manual-clock.ts";
import { CheckRunner } from "./check-runner.ts";
import type { Seen } from "./machine-checks.ts";

const spec = (name: string, changes: Partial<CheckSpec> = {}): CheckSpec => ({
  ...{ name, intervalMs: 10_000, timeoutMs: 3_000, graceMs: 0 },
  ...{ probe: { type: "tcp", port: 80 }, ...changes },
});
const good: Seen = { passing: true, output: "up" };
const bad: Seen = { passing: false, output: "down" };

interface Call {
  readonly probe: Probe;
  readonly signal: AbortSignal;
  readonly answer: (seen: Seen) => void;
}

/** Probes that the test answers by hand. */
function start(specs: readonly CheckSpec[], onSeen?: (spec: CheckSpec, seen: Seen) => void) {
  const clock = new ManualClock();
  const calls: Call[] = [];
  const seen: string[] = [];
  const errors: unknown[] = [];
  const waiting: (() => void)[] = [];
  let most = 0;
  let now = 0;
  const runner = new CheckRunner({
    specs,
    startedMs: clock.nowMs(),
    clock,
    probe: async (probe, signal) => {
      most = Math.max(most, ++now);
      const seen = await new Promise<Seen>((answer) => {
        calls.push({ probe, signal, answer });
        for (const wake of waiting.splice(0)) wake();
      });
      now -= 1;
      return seen;
    },
    onSeen: (one, what) => {
      seen.push(`${one.name}:${what.output}`);
      onSeen?.(one, what);
    },
    onError: (error) => errors.push(error),
  });
  runner.start();
  const call = async (number: number): Promise<Call> => {
    for (;;) {
      const known = calls[number];
      if (known !== undefined) return known;
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
  };
  return { clock, runner, calls, call, seen, errors, most: () => most };
}

describe("the runner of checks", { timeout: 10_000 }, () => {
  test("probes at once, tells what it saw, and probes again after the interval", async () => {
    const { clock, runner, calls, call, seen } = start([spec("a")]);
    (await call(0)).answer(good);
    await clock.until(10_000);
    assert.deepEqual(seen, ["a:up"]);
    clock.advance(9_999);
    assert.equal(calls.length, 1);
    clock.advance(1);
    (await call(1)).answer(bad);
    await clock.until(10_000);
    assert.deepEqual(seen, ["a:up", "a:down"]);
    await runner.stop();
  });

  test("looks often while a program is given its grace, and not any more after it", async () => {
    const { clock, runner, call } = start([spec("a", { graceMs: 1_500 })]);
    (await call(0)).answer(bad);
    await clock.until(1_000);
    clock.advance(1_000);
    (await call(1)).answer(bad);
    await clock.until(1_000);
    clock.advance(1_000);
    (await call(2)).answer(bad);
    await clock.until(10_000);
    await runner.stop();
  });

  test("ends a probe at its limit, and begins no other one of this check before it has ended", async () => {
    const { clock, runner, calls, call, seen, most } = start([spec("a")]);
    const { signal, answer } = await call(0);
    assert.deepEqual(clock.pauses, [3_000]);
    clock.advance(3_000);
    await new Promise<void>((resolve) =>
      signal.aborted ? resolve() : signal.addEventListener("abort", () => resolve()),
    );
    // Whatever the runner would do without an answer, it has done by the next turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(60_000);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(calls.length, 1);
    assert.deepEqual(seen, []);
    answer({ passing: false, output: "cancelled" });
    await clock.until(10_000);
    assert.deepEqual(seen, ["a:no answer within 3s"]);
    assert.equal(most(), 1);
    await runner.stop();
  });

  test("a check that hangs holds up no other", async () => {
    const { clock, runner, call, seen } = start([spec("slow"), spec("quick")]);
    (await call(1)).answer(good);
    await clock.until(3_000, 10_000);
    assert.deepEqual(seen, ["quick:up"]);
    const stopped = runner.stop();
    (await call(0)).answer(bad);
    await stopped;
  });

  test("when it has stopped there is no timer, no probe, and nothing more is told", async () => {
    const { clock, runner, call, seen } = start([spec("probing"), spec("resting")]);
    (await call(1)).answer(good);
    await clock.until(3_000, 10_000);
    const { signal, answer } = await call(0);
    const stopped = runner.stop();
    assert.equal(signal.aborted, true);
    answer(bad);
    await stopped;
    assert.equal(clock.sleeping, 0);
    assert.deepEqual(seen, ["resting:up"]);
  });

  test("what could not be recorded is tried again by the next probe", async () => {
    const broken = new Error("disk full");
    const { clock, runner, call, errors } = start([spec("a")], () => {
      throw broken;
    });
    (await call(0)).answer(good);
    await clock.until(10_000);
    assert.deepEqual(errors, [broken]);
    clock.advance(10_000);
    (await call(1)).answer(good);
    await clock.until(10_000);
    await runner.stop();
  });
});
