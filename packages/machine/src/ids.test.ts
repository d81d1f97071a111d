import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import {
  instanceIdTimeMs,
  isInstanceId,
  isMachineId,
  newInstanceId,
  newMachineId,
  parseMachineId,
} from "./ids.ts";

test("a machine id is 14 lower-case hex digits", () => {
  assert.equal(
    newMachineId(() => Uint8Array.of(0, 1, 2, 0xff, 4, 5, 6)),
    "000102ff040506",
  );
  assert.ok(isMachineId(newMachineId(randomBytes)));
  assert.ok(!isMachineId("000102FF040506"));
});

test("an instance id is a ULID that carries its time", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 48 - 1 }),
      fc.uint8Array({ minLength: 10, maxLength: 10 }),
      (time, random) => {
        const id = newInstanceId(
          () => random,
          () => time,
        );
        assert.ok(isInstanceId(id));
        assert.equal(instanceIdTimeMs(id), time);
      },
    ),
  );
});

test("instance ids of later milliseconds sort later", () => {
  const times = fc.integer({ min: 0, max: 2 ** 48 - 2 });
  fc.assert(
    fc.property(times, (time) => {
      const earlier = newInstanceId(randomBytes, () => time);
      const later = newInstanceId(randomBytes, () => time + 1);
      assert.ok(earlier < later);
    }),
  );
});

test("a text that is not a machine id is refused by name", () => {
  assert.throws(() => parseMachineId("../etc"), { code: "invalid_argument" });
});
