import assert from "node:assert/strict";
import { test } from "node:test";
import { firstGrowth, type GrowthRule, type GrowthState, grow } from "./door-growth.ts";

const rule: GrowthRule = {
  ...{ most: 3, isFixed: false, busyShare: 0.6, idleShare: 0.2 },
  ...{ busySeconds: 3, idleSeconds: 5 },
};

function after(state: GrowthState, seconds: number, ...shares: number[]): GrowthState {
  let now = state;
  for (let second = 0; second < seconds; second += 1) now = grow(now, shares, rule);
  return now;
}

test("one process is enough until it was busy for a while", () => {
  const first = firstGrowth(rule);
  assert.equal(first.wanted, 1);
  assert.equal(after(first, 2, 0.9).wanted, 1);
  assert.equal(after(after(after(first, 2, 0.9), 1, 0.4), 2, 0.9).wanted, 1, "not in a row");
  assert.equal(after(first, 3, 0.9).wanted, 2);
});

test("another one begins when all that were asked for serve and are busy, up to the limit", () => {
  const two = after(firstGrowth(rule), 3, 0.9);
  assert.equal(after(two, 10, 0.9).wanted, 2, "the second does not serve yet");
  assert.equal(after(two, 3, 0.9, 0.1).wanted, 2, "on average they are not");
  const three = after(two, 3, 0.9, 0.7);
  assert.equal(three.wanted, 3);
  assert.equal(after(three, 30, 1, 1, 1).wanted, 3);
});

test("one goes after a quiet time, one at a time, and the first stays", () => {
  const three: GrowthState = { wanted: 3, run: 0 };
  assert.equal(after(three, 4, 0.1, 0, 0).wanted, 3);
  assert.equal(after(three, 5, 0.1, 0, 0).wanted, 2);
  assert.equal(after(three, 50, 0, 0).wanted, 1);
});

test("an operator's number is kept", () => {
  const fixed = { ...rule, isFixed: true };
  assert.equal(firstGrowth(fixed).wanted, 3);
  assert.equal(grow(firstGrowth(fixed), [0, 0, 0], fixed).wanted, 3);
});
