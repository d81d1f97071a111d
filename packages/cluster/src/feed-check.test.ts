import assert from "node:assert/strict";
import { test } from "node:test";
import { FeedCheck } from "./feed-check.ts";

test("a copy of a stream that never rests is as new as the last look whose end it has reached", () => {
  const check = new FeedCheck();
  assert.equal(check.look(100, 10, 7), true);
  assert.equal(check.passed(9), undefined);
  assert.equal(check.look(200, 14, 9), true);
  assert.equal(check.passed(11), 100, "the first mark, though the stream is at 14 by now");
  assert.equal(check.look(300, 18, 13), true);
  assert.equal(check.passed(18), 300);
});

test("a copy that is at the end is new as of the look itself", () => {
  const check = new FeedCheck();
  assert.equal(check.look(100, 5, 5), true);
  assert.equal(check.passed(5), 100);
  assert.equal(check.passed(6), undefined, "until the next look");
});

test("a feed that has not moved between two looks, and should have, stands still", () => {
  const check = new FeedCheck();
  assert.equal(check.look(100, 10, 7), true);
  assert.equal(check.look(200, 10, 7), false);
  const quiet = new FeedCheck();
  assert.equal(quiet.look(100, 7, 7), true);
  assert.equal(quiet.look(200, 7, 7), true);
  assert.equal(quiet.look(300, 9, 7), true, "what is new may still be under way");
});
