import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { nextTurnMs, type ScheduleName } from "./schedule.ts";

const dayMs = 86_400_000;
const longestMs = { hourly: dayMs / 24, daily: dayMs, weekly: 7 * dayMs, monthly: 31 * dayMs } as const;
const schedules = fc.constantFrom<ScheduleName>("hourly", "daily", "weekly", "monthly");
/** 1990 to 2100. */
const times = fc.integer({ min: Date.UTC(1990, 0, 1), max: Date.UTC(2100, 0, 1) });

test("a turn is never in the past, never before the first period has passed, and never further than a period", () => {
  fc.assert(
    fc.property(schedules, times, times, (schedule, created, now) => {
      const turn = nextTurnMs(schedule, created, now);
      assert.ok(turn > now && turn > created);
      assert.ok(turn - Math.max(now, created) <= longestMs[schedule]);
    }),
  );
});

test("turns only move forward, and none is passed over", () => {
  fc.assert(
    fc.property(schedules, times, times, fc.nat(62 * dayMs), (schedule, created, now, laterMs) => {
      const turn = nextTurnMs(schedule, created, now);
      assert.ok(nextTurnMs(schedule, created, now + laterMs) >= turn);
      assert.equal(nextTurnMs(schedule, created, turn - 1), turn, "until it comes it stays the next one");
      assert.ok(nextTurnMs(schedule, created, turn) > turn);
    }),
  );
});

test("each month has one turn, on the day of the creation or its own last day, at the same time", () => {
  fc.assert(
    fc.property(times, fc.integer({ min: 1, max: 60 }), (created, count) => {
      const from = new Date(created);
      let now = created;
      for (let month = 1; month <= count; month++) {
        now = nextTurnMs("monthly", created, now);
        const turn = new Date(now);
        assert.equal(
          turn.getUTCFullYear() * 12 + turn.getUTCMonth(),
          from.getUTCFullYear() * 12 + from.getUTCMonth() + month,
        );
        const isLast = new Date(now + dayMs).getUTCDate() === 1;
        assert.ok(
          turn.getUTCDate() === from.getUTCDate() || (isLast && turn.getUTCDate() < from.getUTCDate()),
        );
        assert.equal(now % dayMs, created % dayMs);
      }
    }),
  );
});

test("months of different lengths", () => {
  const from = Date.UTC(2028, 0, 31, 13, 5);
  const turns: string[] = [];
  for (let now = from; turns.length < 4; ) {
    now = nextTurnMs("monthly", from, now);
    turns.push(new Date(now).toISOString().slice(0, 16));
  }
  assert.deepEqual(turns, ["2028-02-29T13:05", "2028-03-31T13:05", "2028-04-30T13:05", "2028-05-31T13:05"]);
});

test("of the turns that were missed, the next one is one and not each of them", () => {
  const created = Date.UTC(2026, 0, 1);
  const now = created + 100 * dayMs + 1;
  assert.equal(nextTurnMs("hourly", created, now), created + 100 * dayMs + dayMs / 24);
  assert.equal(nextTurnMs("weekly", created, now), created + 105 * dayMs);
});
