/** The drill itself, in small: `npm run drill -- wipe-jetstream` runs it whole. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runWipeJetstream } from "./wipe-jetstream.ts";

const skip = process.getuid?.() === 0 ? false : "making taps needs root";

test("a region whose bus loses its store under writes loses nothing that it acknowledged", {
  skip,
}, async () => {
  const seed = Date.now() % 1_000_000;
  const size = { apis: 2, nodes: 1, clients: 4, everyMs: 1_500 };
  const { acknowledged, found, wipes, shortened, restored, restated } = await runWipeJetstream({
    ...{ seed, writes: Number.POSITIVE_INFINITY, mostLosses: 2 },
    ...size,
  });
  assert.deepEqual(found, [], `seed ${seed}`);
  assert.ok(acknowledged > 10, `${acknowledged} writes were acknowledged`);
  assert.equal(wipes + shortened, 2);
  assert.ok(restored > 0, "something was put back");
  assert.ok(restated > 0, "the worker saw the loss");
});
