import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { Certificates } from "./certificates.ts";
import type { KeyAndCertificate } from "./local-ca.ts";

const dayMs = 24 * 3_600_000;

/** One pair of a key and a certificate that are real; how long it is said to be good is the test's. */
function pair(expiresMs: number): KeyAndCertificate {
  const made = execFileSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-subj",
      "/CN=x",
      "-keyout",
      "-",
    ],
    { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
  );
  const [key = "", cert = ""] = made.split(/(?=-----BEGIN CERTIFICATE)/);
  return { key, cert, expiresMs };
}

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
