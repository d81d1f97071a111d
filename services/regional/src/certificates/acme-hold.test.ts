/** The right to deal with an authority for a name, over a real bus. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type AcmeFact, factKeys } from "@hearth/machine";
import { startRegion, type TestRegion, until } from "../testing/fixture.ts";
import { begun } from "./acme-due.ts";
import { AcmeHold, defaultHoldLimits } from "./acme-hold.ts";

const hostname = "www.example.test";
const start = { hostname, directory: "https://ca.test/dir", nowMs: 0 };

let region: TestRegion;
before(async () => {
  region = await startRegion();
});
after(async () => region[Symbol.asyncDispose]());

const deps = () => ({ view: { replica: region.replica }, facts: () => region.facts });
const seen = () => {
  const found = region.replica.get(factKeys.acme(hostname));
  return { fact: found?.value as AcmeFact | undefined, expected: found?.revision ?? 0 };
};
const take = (holder: string, limits = defaultHoldLimits) => {
  const { fact, expected } = seen();
  return AcmeHold.take(deps(), begun(fact, { ...start, holder }), { expected, limits });
};

test("of two that begin at once one has it; who is overtaken writes nothing more, and is told", async () => {
  const [one, two] = await Promise.all([take("one"), take("two")]);
  assert.equal([one, two].filter((hold) => hold !== undefined).length, 1);
  const first = one ?? two;
  assert.ok(first);
  await first.write(() => ({ order: { url: "https://ca.test/order/1", sealed_key: "x" } }));
  const next = await take("three");
  assert.ok(next);
  assert.deepEqual([next.fact.term, next.fact.order?.url], [2, "https://ca.test/order/1"]);
  await assert.rejects(
    first.write(() => ({ order: undefined })),
    { code: "conflict" },
  );
  assert.ok(first.lost.aborted);
  await assert.rejects(first.release(() => ({ failed: 9 })));
  assert.deepEqual([seen().fact?.holder, seen().fact?.failed], ["three", 0]);
  await next.release(() => ({ failed: 1 }));
  assert.deepEqual([seen().fact?.holder, seen().fact?.failed], [undefined, 1]);
});

test("while it is held it is heard of, and a name that was removed is not brought back", async () => {
  const hold = await take("four", { ...defaultHoldLimits, beatMs: 10 });
  assert.ok(hold);
  const { beat } = hold.fact;
  await until(() => (seen().fact?.beat ?? 0) > beat + 1, "two beats");
  await region.facts.delete(factKeys.acme(hostname));
  await until(() => hold.lost.aborted, "the end of the right");
  await hold.abandon();
  assert.equal(seen().fact, undefined);
});
