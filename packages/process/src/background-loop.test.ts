import assert from "node:assert/strict";
import { test } from "node:test";
import { BackgroundLoop } from "./background-loop.ts";
import { untilAborted } from "./stop-signal.ts";

test("work is begun once, and whoever stops it waits for its end", async () => {
  const told: string[] = [];
  const loop = new BackgroundLoop(async (signal) => {
    told.push("begun");
    await untilAborted(signal);
    await new Promise((resolve) => setImmediate(resolve));
    told.push("ended");
  });
  loop.start();
  loop.start();
  assert.deepEqual(told, ["begun"]);
  await loop.stop();
  assert.deepEqual(told, ["begun", "ended"]);
});

test("work that never began is stopped at once", async () => {
  const loop = new BackgroundLoop(async () => assert.fail("it was begun"));
  await loop.stop();
  assert.equal(loop.signal.aborted, true);
});
