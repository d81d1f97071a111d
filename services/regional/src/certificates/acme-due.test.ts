import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import type { AcmeFact, StoredCertificate } from "@hearth/machine";
import { begun, due, failed } from "./acme-due.ts";

const hostname = "www.example.test";
const hour = 3_600_000;
const day = 24 * hour;
const start = { hostname, directory: "https://ca.test/dir", holder: "one", nowMs: 0 };
const refusal = (type: string, more: object = {}): HearthError =>
  new HearthError("acme_refused", { details: { type, detail: "in its words", ...more } });
const at = (nowMs: number) => ({ nowMs, random: 0 });
const idle = (changes: Partial<AcmeFact>): AcmeFact => ({
  ...begun(undefined, start),
  holder: undefined,
  ...changes,
});

test("a name is asked for at once, and then only when its certificate is two thirds through", () => {
  assert.deepEqual(due(undefined, hostname, 0), { kind: "now" });
  assert.deepEqual(due(begun(undefined, start), hostname, 0), { kind: "held" });
  const certificate = { not_before_ms: 0, not_after_ms: 90 * day } as StoredCertificate;
  const fact = idle({ certificate, attempts_ms: [] });
  const later = due(fact, hostname, day);
  assert.ok(later.kind === "later" && later.atMs > 55 * day && later.atMs <= 60 * day);
  assert.deepEqual(due(fact, hostname, 60 * day), { kind: "now" });
});

test("five orders in an hour are all that a name begins, whoever asks", () => {
  const fact = idle({ attempts_ms: [0, 1, 2, 3, 4], next_attempt_ms: 5 });
  assert.deepEqual(due(fact, hostname, 10), { kind: "later", atMs: hour });
  assert.deepEqual(due(fact, hostname, hour), { kind: "now" });
});

test("a failure is kept in the authority's words, and the next attempt is later each time", () => {
  let fact = begun(undefined, start);
  const waits: number[] = [];
  for (let count = 0; count < 8; count += 1) {
    fact = { ...fact, ...failed(fact, refusal("unauthorized"), at(0)) };
    waits.push(fact.next_attempt_ms);
  }
  assert.deepEqual(
    waits,
    [...waits].sort((one, other) => one - other),
  );
  assert.equal(waits.at(-1), day);
  assert.equal(fact.failures.length, 5);
  assert.deepEqual(fact.failures[0], { code: "unauthorized", message: "in its words", at_ms: 0 });
});

test("what an authority limits is left alone for as long as it says, or for an hour", () => {
  const fact = begun(undefined, start);
  const said = {
    ...fact,
    ...failed(fact, refusal("rateLimited", { retry_after_ms: 3 * day }), at(0)),
    holder: undefined,
  };
  assert.deepEqual(due(said, hostname, day), { kind: "later", atMs: 3 * day });
  const unsaid = { ...fact, ...failed(fact, refusal("rateLimited"), at(0)) };
  assert.equal(unsaid.rate_limited_until_ms, hour);
  const busy = failed(fact, refusal("serverInternal", { retry_after_ms: 3 * day }), at(0));
  assert.equal(busy.next_attempt_ms, 3 * day, "also when it is busy");
});

test("an order goes on where the authority was not reached, and with another holder it is no new attempt", () => {
  const order = { url: "https://ca.test/order/1", sealed_key: "x" };
  const fact = { ...begun(undefined, start), order };
  const away = failed(fact, new HearthError("unavailable"), at(0));
  assert.deepEqual(away.order, order);
  assert.equal(failed(fact, refusal("unauthorized"), at(0)).order, undefined);
  const lacking = new HearthError("host_requirement_missing", { message: "/etc/ca.pem cannot be read" });
  assert.doesNotMatch(failed(fact, lacking, at(0)).failures?.[0]?.message ?? "", /etc/);
  const taken = begun(fact, { ...start, holder: "two", nowMs: 1 });
  assert.deepEqual([taken.term, taken.attempts_ms, taken.order], [2, [0], order]);
  const elsewhere = begun(fact, { ...start, directory: "https://other.test/dir" });
  assert.equal(elsewhere.order, undefined, "an order of another authority is nothing to this one");
});
