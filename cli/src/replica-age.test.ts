import assert from "node:assert/strict";
import { test } from "node:test";
import { warnOfAge } from "./replica-age.ts";

test("what is older than ten seconds is said once, and what is fresh never", () => {
  const said: string[] = [];
  const onAge = warnOfAge((text) => said.push(text));
  for (const ageMs of [0, 900, 10_000, 42_000, 99_000]) onAge(ageMs);
  assert.equal(said.length, 1);
  assert.match(said[0] ?? "", /42 s old/);
  warnOfAge((text) => said.push(text))(Number.POSITIVE_INFINITY);
  assert.match(said[1] ?? "", /never been compared/);
});
