import assert from "node:assert/strict";
import { test } from "node:test";
import { HeardServices } from "./service-health.ts";

test("what is wrong now is told at once, and not what is as it was", () => {
  let changes = 0;
  const heard = new HeardServices(() => {
    changes += 1;
  });
  heard.take({ problems: [], warnings: ["slow"] });
  assert.equal(changes, 0);
  heard.take({ problems: ["images: it ended"], warnings: [] });
  heard.take({ problems: ["images: it ended"], warnings: [] });
  assert.equal(changes, 1);
  heard.take({ problems: [], warnings: [] });
  assert.equal(changes, 2);
});

test("what the agent says of services counts until it is old, and nonsense is refused by name", () => {
  let nowMs = 0;
  const heard = new HeardServices(
    () => undefined,
    () => nowMs,
  );
  heard.take({ problems: ["images: it ended"], warnings: [] });
  assert.deepEqual(heard.now.problems, ["images: it ended"]);
  nowMs = 31_000;
  assert.deepEqual(heard.now, { problems: [], warnings: [] });
  assert.throws(() => heard.take({ problems: "all" }), { code: "invalid_argument" });
});
