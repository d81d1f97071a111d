import assert from "node:assert/strict";
import { test } from "node:test";
import { quietMs, restMs } from "./mesh-pace.ts";

test("a peer that goes on not answering is looked at ever less often, what this host does itself is not", () => {
  const rests = [0, 1, 2, 3, 4, 50].map((turns) => restMs("connecting", turns));
  assert.deepEqual(rests, [500, 1_000, 2_000, 4_000, quietMs, quietMs]);
  assert.deepEqual([restMs("changing", 0), restMs("changing", 50)], [500, 500]);
  assert.equal(restMs("quiet", 0), quietMs);
});
