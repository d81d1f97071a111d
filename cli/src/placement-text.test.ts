import assert from "node:assert/strict";
import { test } from "node:test";
import { placementText } from "./placement-text.ts";

test("the account of a placement names who was passed over and why, a few by name and the rest by number", () => {
  const considered = Array.from({ length: 7 }, (_, at) => ({
    ...{ node_id: `n${at}`, code: "memory" as const, reason: "has 10 MB free" },
  }));
  const chosen = { node_id: "n9", code: "chosen" as const, reason: "took the machine" };
  const spare = { node_id: "n8", code: "ranked_lower" as const, reason: "could take it" };
  const report = { node_id: "n9", nodes: 40, passed_over: { memory: 12, ranked_lower: 27 } };
  assert.deepEqual(placementText({ ...report, considered: [...considered, chosen, spare] }), [
    "It was put on node n9, of 40 nodes.",
    `Passed over: ${[0, 1, 2, 3, 4].map((at) => `n${at} has 10 MB free`).join("; ")}; 7 more.`,
  ]);
  const alone = { node_id: "n9", nodes: 1, considered: [chosen], passed_over: {} };
  assert.deepEqual(placementText(alone), ["It was put on node n9, of 1 node."]);
  assert.deepEqual(placementText(undefined), []);
});
