import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import fc from "fast-check";
import type { InstanceId } from "./ids.ts";
import { checkLease, grantLease, type Lease, leaseData, needLease } from "./lease.ts";

const machineId = "000102ff040506";
const version = "01ARZ3NDEKTSV4RRFFQ69G5FAV" as InstanceId;
const later = "01BX5ZZKBKACTAV9WEVGEMMVRZ" as InstanceId;
let made = 0;
const at = (nowMs: number, instance = version) => ({
  machineId,
  version: instance,
  nowMs,
  newNonce: () => {
    made += 1;
    return `nonce-${made}`;
  },
});
const lease: Lease = { nonce: "mine", expiresAtMs: 5_000, owner: "ann", description: "deploy", version };
const is = (code: string) => (error: unknown) => error instanceof HearthError && error.code === code;

test("a live lease lets its nonce pass and refuses every other in the words that clients match on", () => {
  checkLease(machineId, lease, "mine", 4_999);
  for (const nonce of [undefined, "", "Mine", "mine "])
    assert.throws(
      () => checkLease(machineId, lease, nonce, 4_999),
      (error) => {
        assert.ok(error instanceof HearthError);
        assert.equal(error.code, "lease_held");
        const text = `machine ID ${machineId} lease currently held by ann, expires at 1970-01-01T00:00:05.000Z`;
        assert.equal(error.message, text);
        assert.equal(JSON.stringify(error.toWire()).includes("mine"), false, "the nonce stays a secret");
        return true;
      },
    );
});

test("an expired lease, or none, gates nothing", () => {
  checkLease(machineId, lease, undefined, 5_000);
  checkLease(machineId, lease, "wrong", 5_000);
  checkLease(machineId, null, undefined, 0);
  assert.throws(() => needLease(lease, 5_000), is("lease_not_found"));
  assert.throws(() => needLease(null, 0), { message: /lease not found/ });
});

test("a refresh keeps the nonce and what was said, and extends from now", () => {
  const refreshed = grantLease(lease, { ttlMs: 2_000, nonce: "mine" }, at(4_000, later));
  assert.deepEqual(refreshed, { ...lease, expiresAtMs: 6_000, version: later });
  const shorter = grantLease(lease, { ttlMs: 10, nonce: "mine", description: "last" }, at(4_000));
  assert.deepEqual([shorter.expiresAtMs, shorter.description], [4_010, "last"]);
});

test("a refresh of a lease that is over is refused, as others may have changed the machine", () => {
  assert.throws(() => grantLease(lease, { ttlMs: 1, nonce: "mine" }, at(5_000)), is("lease_not_found"));
  assert.throws(() => grantLease(null, { ttlMs: 1, nonce: "mine" }, at(0)), is("lease_not_found"));
});

test("at any time one holder at most can pass", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ who: fc.nat(3), waitMs: fc.nat(50), ttlMs: fc.integer({ min: 1, max: 100 }) }), {
        maxLength: 40,
      }),
      (wishes) => {
        let kept: Lease | null = null;
        let nowMs = 0;
        const nonces: (string | undefined)[] = [];
        for (const { who, waitMs, ttlMs } of wishes) {
          nowMs += waitMs;
          try {
            kept = grantLease(kept, { ttlMs, nonce: nonces[who] }, at(nowMs));
            nonces[who] = kept.nonce;
          } catch (error) {
            if (is("lease_not_found")(error)) nonces[who] = undefined;
            else assert.ok(is("lease_held")(error));
          }
          const passes = (nonce: string | undefined): boolean => {
            try {
              checkLease(machineId, kept, nonce, nowMs);
              return true;
            } catch {
              return false;
            }
          };
          if (kept !== null && kept.expiresAtMs > nowMs) {
            assert.equal(passes(undefined), false);
            assert.ok(nonces.filter((nonce) => nonce !== undefined && passes(nonce)).length <= 1);
          }
        }
      },
    ),
  );
});

test("the nonce is told only when that is asked for", () => {
  const data = { expires_at: 5, owner: "ann", description: "deploy", version };
  assert.deepEqual(leaseData({ ...lease, expiresAtMs: 5_999 }, { withNonce: false }), data);
  assert.deepEqual(leaseData(lease, { withNonce: true }), { nonce: "mine", ...data });
  const old: Lease = { nonce: "n", expiresAtMs: 1_000 };
  assert.equal(typeof leaseData(old, { withNonce: false }).owner, "string", "of a worker before this one");
});
