import assert from "node:assert/strict";
import { test } from "node:test";
import { factKeys, factPrefixes, isOwnWord } from "./facts.ts";

test("what nodes say of themselves is told from what the API keeps, also where names begin alike", () => {
  const said = [factKeys.machine("n1", "m1"), factKeys.node("n1"), factKeys.mesh("n1")];
  assert.deepEqual(said.filter(isOwnWord), said);
  const kept = [
    factKeys.machineName("web", "one"),
    factKeys.networkPair("personal", "blue", "green"),
    factKeys.meshEpoch(),
    `${factPrefixes.nodePolicy}n1`,
    `${factPrefixes.nodeKey}n1`,
  ];
  assert.deepEqual(kept.filter(isOwnWord), []);
});
