import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "@hearth/telemetry";
import { Restatement } from "./restatement.ts";

function setUp() {
  const bus = { isIntact: true, revision: 0, mark: 0, sent: 0, said: 0, fails: false };
  const lines: string[] = [];
  const restatement = new Restatement({
    facts: {
      isIntact: async () => bus.isIntact,
      position: async () => ({ stream: "s", revision: bus.revision }),
      noteRestated: () => {
        bus.isIntact = true;
      },
    },
    outbox: {
      get mark() {
        return bus.mark;
      },
      isSent: (mark) => bus.sent >= mark,
    },
    republish: () => {
      if (bus.fails) throw new Error("the disk is full");
      bus.said += 1;
      bus.mark += 3;
    },
    logger: createLogger("test", {}, { destination: { write: (line) => void lines.push(line) } }),
  });
  return { bus, lines, restatement };
}

test("all is said at the start, and it is told only when all of it has arrived", async () => {
  const { bus, lines, restatement } = setUp();
  bus.revision = 40;
  await restatement.look();
  assert.deepEqual([bus.said, restatement.restated], [1, undefined]);
  bus.sent = 2;
  await restatement.look();
  assert.equal(restatement.restated, undefined);
  bus.sent = 3;
  await restatement.look();
  assert.deepEqual([bus.said, restatement.restated], [1, { stream: "s", revision: 41 }]);
  assert.deepEqual(lines, []);
});

test("after a loss all is said again, loudly, and what was told of before is not told meanwhile", async () => {
  const { bus, lines, restatement } = setUp();
  bus.sent = 100;
  await restatement.look();
  assert.notEqual(restatement.restated, undefined);
  Object.assign(bus, { isIntact: false, sent: 0, revision: 7 });
  await restatement.look();
  assert.deepEqual([bus.said, restatement.restated, lines.length], [2, undefined, 1]);
  Object.assign(bus, { isIntact: true, sent: 100 });
  await restatement.look();
  assert.deepEqual([bus.said, restatement.restated], [2, { stream: "s", revision: 8 }]);
});

test("what could not be said is not told as said, and is said at the next look", async () => {
  const { bus, restatement } = setUp();
  bus.fails = true;
  bus.sent = 100;
  await assert.rejects(restatement.look());
  assert.equal(restatement.restated, undefined);
  bus.fails = false;
  await restatement.look();
  assert.deepEqual([bus.said, restatement.restated], [1, { stream: "s", revision: 1 }]);
});
