/** Uploads as people send them: each wrong in one way, with real certificates. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { checkChain } from "./chain.ts";

const hostname = "www.example.test";
let directory: string;
const file = (name: string): string => join(directory, name);
const read = (name: string): string => readFileSync(file(name), "utf8");
const openssl = (...args: string[]): void => {
  execFileSync("openssl", args, { stdio: "ignore" });
};
const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

function makeLeaf(name: string, subjectAltName: string, kind: readonly string[] = curve): void {
  const names = subjectAltName === "" ? [] : ["-addext", `subjectAltName=${subjectAltName}`];
  openssl(
    ...["req", "-x509", "-days", "10", ...kind, "-subj", `/CN=${hostname}`, ...names],
    ...["-addext", "basicConstraints=critical,CA:FALSE", "-CA", file("ca.pem"), "-CAkey", file("ca.key")],
    ...["-keyout", file(`${name}.key`), "-out", file(`${name}.pem`)],
  );
}

before(() => {
  directory = mkdtempSync(join(tmpdir(), "hearth-chain-"));
  for (const name of ["ca", "stranger"])
    openssl(
      "req",
      "-x509",
      ...curve,
      "-subj",
      `/O=Test/CN=${name}`,
      "-keyout",
      file(`${name}.key`),
      "-out",
      file(`${name}.pem`),
    );
  makeLeaf("leaf", `DNS:${hostname}`);
  makeLeaf("wild", "DNS:*.example.test");
  makeLeaf("nameless", "");
  makeLeaf("weak", `DNS:${hostname}`, ["-newkey", "rsa:1024", "-nodes"]);
  makeLeaf("rsa", `DNS:${hostname}`, ["-newkey", "rsa:2048", "-nodes"]);
  openssl("pkcs8", "-topk8", "-in", file("leaf.key"), "-passout", "pass:x", "-out", file("locked.key"));
});
after(() => rmSync(directory, { recursive: true }));

const check = (fullchain: string, privateKey: string, nowMs = Date.now()) =>
  checkChain({ hostname, fullchain, privateKey }, nowMs);
const dayMs = 86_400_000;

test("a chain whose key, names and days are right is taken, and only its certificates are kept", () => {
  const taken = check(`some words\n${read("leaf.pem")}${read("ca.pem")}`, read("leaf.key"));
  assert.equal(taken.chain.match(/BEGIN/g)?.length, 2);
  assert.doesNotMatch(taken.chain, /some words/);
  assert.deepEqual([taken.issuer, taken.key_type], ["Test ca", "ecdsa"]);
  assert.equal(check(read("wild.pem"), read("wild.key")).issuer, "Test ca");
  assert.equal(check(read("rsa.pem"), read("rsa.key")).key_type, "rsa");
});

test("each thing that is wrong is refused by name", () => {
  const [leaf, key] = [read("leaf.pem"), read("leaf.key")];
  const broken = leaf.replace(/[A-Za-z]{20}/, "AAAAAAAAAAAAAAAAAAAA");
  const cases: readonly (readonly [RegExp, string, string, number?])[] = [
    [/no certificate in it/, "nothing", key],
    [/is no certificate|has not signed|not the one/, broken, key],
    [/not the one of the first/, leaf, read("wild.key")],
    [/one of an authority/, read("ca.pem"), read("ca.key")],
    [/certificate 2 of it has not signed certificate 1/, leaf + read("stranger.pem"), key],
    [/certificate 2 of it has not signed/, read("ca.pem") + leaf, read("ca.key")],
    [/for no name and not for www/, read("nameless.pem"), read("nameless.key")],
    [/expired on/, leaf, key, Date.now() + 11 * dayMs],
    [/not valid before/, leaf, key, Date.now() - dayMs],
    [/no private key/, leaf, "nothing"],
    [/encrypted/, leaf, read("locked.key")],
    [/of a kind that clients do not take/, read("weak.pem"), read("weak.key")],
    [/more than 8/, leaf.repeat(9), key],
  ];
  for (const [message, fullchain, privateKey, nowMs] of cases)
    assert.throws(() => check(fullchain, privateKey, nowMs), { code: "certificate_invalid", message });
  assert.throws(
    () =>
      checkChain(
        { hostname: "a.b.example.test", fullchain: read("wild.pem"), privateKey: read("wild.key") },
        Date.now(),
      ),
    /for \*\.example\.test and not for a\.b/,
  );
});
