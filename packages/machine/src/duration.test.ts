import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatGoDuration, parseDurationMs } from "./duration.ts";

test("every way of writing a duration is read", () => {
  const cases: [unknown, number][] = [
    ["30s", 30_000],
    ["1m30s", 90_000],
    ["1.5h", 5_400_000],
    ["250ms", 250],
    [".5s", 500],
    ["0s", 0],
    ["30", 30_000],
    [5_000_000_000, 5_000],
    [{ "time.Duration": 2_000_000_000 }, 2_000],
  ];
  for (const [input, expected] of cases)
    assert.equal(parseDurationMs(input, "timeout"), expected, String(input));
});

test("what is no duration is refused, and the field is named", () => {
  for (const input of [
    "",
    "s",
    "1 s",
    "-1s",
    "5x",
    1.5,
    -1,
    null,
    {},
    { "time.Duration": "1" },
    "999999999h",
  ])
    assert.throws(() => parseDurationMs(input, "stop_config.timeout"), {
      code: "invalid_argument",
      details: { field: "stop_config.timeout" },
    });
});

test("what is written is read back", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1e10 }), (ms) => {
      assert.ok(Math.abs(parseDurationMs(formatGoDuration(ms), "x") - ms) < 1e-3);
    }),
  );
  assert.equal(formatGoDuration(3_600_000), "1h0m0s");
});
