import assert from "node:assert/strict";
import { test } from "node:test";
import { selfSigned } from "@hearth/testkit";
import { Certificates } from "./certificates.ts";
import type { KeyAndCertificate } from "./local-ca.ts";

const dayMs = 24 * 3_600_000;

/** One that is real; how long it is said to be good is the test's. */
const pair = (expiresMs: number): KeyAndCertificate => ({ ...selfSigned("/CN=x"), expiresMs });

test("a certificate that cannot be renewed is shown for as long as it is good, and renewing is tried again", async () => {
  let nowMs = 0;
  let isBroken = false;
  let issued = 0;
  const certificates = new Certificates({
    domain: "example.test",
    nowMs: () => nowMs,
    issue: async () => {
      issued += 1;
      if (isBroken) throw new Error("the disk is full");
      return pair(nowMs + 90 * dayMs);
    },
  });
  const first = await certificates.ofDomain();
  assert.equal(await certificates.ofDomain(), first);
  assert.equal(issued, 1);
  nowMs = 70 * dayMs;
  isBroken = true;
  for (let asked = 0; asked < 3; asked += 1) assert.equal(await certificates.ofDomain(), first);
  assert.equal(issued, 2, "not once for each connection");
  nowMs += 10_000;
  isBroken = false;
  assert.equal(await certificates.ofDomain(), first, "nobody waits for it");
  await new Promise(setImmediate);
  assert.notEqual(await certificates.ofDomain(), first);
  nowMs += 100 * dayMs;
  isBroken = true;
  await assert.rejects(certificates.contextFor("web.example.test"), /disk is full/);
  assert.equal(await certificates.contextFor("a.web.example.test"), undefined);
});
