/** The client side of ACME and what it writes, without an authority: answers are the test's. With one: test/e2e/certificates.test.ts. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHmac, createPublicKey, verify, X509Certificate } from "node:crypto";
import { test } from "node:test";
import type { HearthError } from "@hearth/errors";
import { AcmeClient } from "./client.ts";
import { challengeCertificate, signingRequest } from "./der.ts";
import { readHostname } from "./hostname.ts";
import { accountKeyOf, keyAuthorization, newPrivateKey } from "./jws.ts";
import { isRateLimited, problemOf } from "./problem.ts";
import { attemptsPerHour, renewAtMs, retryDelayMs } from "./renewal.ts";
import { newSealingSecret, openSealed, sealWith } from "./sealed.ts";
import type { AcmeAnswer, AcmeCall } from "./transport.ts";

const at = "https://ca.test";
const directory = { newNonce: `${at}/nonce`, newAccount: `${at}/account`, newOrder: `${at}/order` };

interface Said {
  readonly status?: number;
  readonly headers?: AcmeAnswer["headers"];
  readonly body?: unknown;
}

/** A client, and what it asked; each POST is answered by the next of these. */
function clientFor(answers: readonly Said[], meta: object = {}) {
  const key = accountKeyOf(newPrivateKey());
  const calls: AcmeCall[] = [];
  const left = [...answers];
  let nonce = 0;
  const client = new AcmeClient({
    ...{ directoryUrl: `${at}/dir`, key, nowMs: () => Date.parse("2026-01-01T00:00:00Z") },
    transport: async (call) => {
      calls.push(call);
      nonce += 1;
      const headers = { "replay-nonce": `nonce-${nonce}` };
      if (call.method === "GET")
        return { status: 200, headers, body: JSON.stringify({ ...directory, meta }) };
      if (call.method === "HEAD") return { status: 200, headers, body: "" };
      const said = left.shift() ?? {};
      const body = typeof said.body === "string" ? said.body : JSON.stringify(said.body ?? {});
      return { status: said.status ?? 200, headers: { ...headers, ...said.headers }, body };
    },
  });
  const posted = () =>
    calls
      .filter(({ method }) => method === "POST")
      .map(({ body = "" }) => {
        const parts = JSON.parse(body) as { protected: string; payload: string; signature: string };
        const read = (text: string) => JSON.parse(Buffer.from(text, "base64url").toString() || "null");
        const isSigned = verify(
          "sha256",
          Buffer.from(`${parts.protected}.${parts.payload}`),
          { key: createPublicKey(key.privateKey), dsaEncoding: "ieee-p1363" },
          Buffer.from(parts.signature, "base64url"),
        );
        return { header: read(parts.protected), payload: read(parts.payload), isSigned };
      });
  return { client, calls, posted, key };
}

const account: Said = { status: 201, headers: { location: `${at}/account/1` } };
const problem = (type: string, detail: string, headers: Said["headers"] = {}): Said => ({
  status: 429,
  headers,
  body: { type: `urn:ietf:params:acme:error:${type}`, detail },
});

test("each request is signed with a fresh nonce, first by the key and then in the account's name", async () => {
  const order = { status: "pending", authorizations: [`${at}/authz/1`], finalize: `${at}/finalize/1` };
  const made = clientFor([account, { status: 201, headers: { location: `${at}/order/1` }, body: order }]);
  await made.client.register({ email: "ops@example.test" });
  const { url } = await made.client.newOrder("www.example.test");
  assert.equal(url, `${at}/order/1`);
  const [first, second] = made.posted();
  assert.ok(first?.isSigned && second?.isSigned);
  assert.deepEqual(first.header.jwk, made.key.jwk);
  assert.deepEqual(first.payload.contact, ["mailto:ops@example.test"]);
  assert.equal(second.header.kid, `${at}/account/1`);
  assert.deepEqual(second.payload.identifiers, [{ type: "dns", value: "www.example.test" }]);
  assert.notEqual(first.header.nonce, second.header.nonce);
});

test("a nonce that is refused is no refusal; it is tried again, and not for ever", async () => {
  const made = clientFor([problem("badNonce", "stale"), account]);
  await made.client.register({});
  assert.equal(made.posted().length, 2);
  const hopeless = clientFor(Array.from({ length: 9 }, () => problem("badNonce", "stale")));
  await assert.rejects(hopeless.client.register({}), { code: "acme_refused" });
  assert.equal(hopeless.posted().length, 4);
});

test("a refusal keeps the authority's words, and for how long it wants to be left alone", async () => {
  for (const [retryAfter, ms] of [
    ["120", 120_000],
    ["Thu, 01 Jan 2026 00:10:00 GMT", 600_000],
    ["soon", undefined],
  ] as const) {
    const words = "too many certificates already issued for example.test";
    const made = clientFor([problem("rateLimited", words, { "retry-after": retryAfter })]);
    const error = await made.client.register({}).catch((thrown: unknown) => thrown);
    const said = problemOf(error);
    assert.deepEqual([said?.type, said?.detail, said?.retryAfterMs], ["rateLimited", words, ms]);
    assert.ok(said && isRateLimited(said));
    assert.match((error as HearthError).message, /too many certificates/);
  }
});

test("an external account is bound by its key, and its lack is said before the authority is asked", async () => {
  const hmacKey = Buffer.from("secret").toString("base64url");
  const needs = { externalAccountRequired: true };
  const made = clientFor([account], needs);
  await made.client.register({ external: { kid: "kid-1", hmacKey } });
  const { externalAccountBinding: bound } = made.posted()[0]?.payload ?? {};
  const mac = createHmac("sha256", "secret").update(`${bound.protected}.${bound.payload}`);
  assert.equal(bound.signature, mac.digest("base64url"));
  const without = clientFor([account], needs);
  const error = await without.client.register({}).catch((thrown: unknown) => thrown);
  assert.equal(problemOf(error)?.type, "externalAccountRequired");
  assert.equal(without.posted().length, 0);
});

test("what does not speak ACME is said to be that", async () => {
  const made = clientFor([{ body: "<html>", headers: { location: `${at}/order/1` } }]);
  await assert.rejects(made.client.newOrder("www.example.test"), { code: "unavailable", message: /ACME/ });
});

test("openssl reads the request and the proof as they are meant", () => {
  const key = newPrivateKey();
  const name = `${"a".repeat(60)}.${"b".repeat(60)}.${"c".repeat(60)}.example.test`;
  const input = signingRequest(name, key);
  const args = ["req", "-inform", "DER", "-noout", "-text", "-verify"];
  const text = execFileSync("openssl", args, { input, encoding: "utf8", stdio: ["pipe", "pipe", "ignore"] });
  assert.match(text, new RegExp(`DNS:${name}`));
  const proof = { hostname: name, keyAuthorization: keyAuthorization("token", accountKeyOf(key)) };
  const certificate = new X509Certificate(challengeCertificate(proof, key, Date.now()));
  assert.equal(certificate.subjectAltName, `DNS:${name}`);
  assert.ok(certificate.verify(createPublicKey(key)), "signed by its own key");
  const shown = execFileSync("openssl", ["x509", "-noout", "-text"], {
    input: certificate.toString(),
    encoding: "utf8",
  });
  assert.match(shown, /1\.3\.6\.1\.5\.5\.7\.1\.31: critical/);
});

test("a name is read once: lower case, in ASCII, and nothing that no one can own", () => {
  assert.equal(readHostname(" WWW.Example.test. "), "www.example.test");
  assert.equal(readHostname("bücher.example"), "xn--bcher-kva.example");
  for (const wrong of [
    "",
    "localhost",
    "*.example.test",
    "10.0.0.1",
    "::1",
    "a..b",
    "-a.test",
    "a b.test",
    "1.2",
  ])
    assert.throws(() => readHostname(wrong), { code: "hostname_invalid" }, wrong);
  assert.throws(() => readHostname("*.example.test"), /DNS-01/);
});

test("renewal is before the last third of a life, and names that begin together are spread", () => {
  const life = { not_before_ms: 0, not_after_ms: 90 * 86_400_000 };
  const times = Array.from({ length: 200 }, (_, at) => renewAtMs(`${at}.example.test`, life));
  const third = life.not_after_ms / 3;
  assert.ok(times.every((ms) => ms <= 2 * third && ms >= 2 * third - life.not_after_ms / 20));
  assert.ok(new Set(times).size > 190);
  assert.equal(renewAtMs("a.test", life), renewAtMs("a.test", life), "the same on every host");
});

test("attempts that fail stay below five in an hour, and are a day apart in the end", () => {
  let ms = 0;
  const times = [0];
  for (let failed = 1; failed <= 10; failed += 1) {
    ms += retryDelayMs(failed, 0);
    times.push(ms);
  }
  for (const begun of times)
    assert.ok(times.filter((each) => each >= begun && each < begun + 3_600_000).length <= attemptsPerHour);
  assert.equal(retryDelayMs(50, 0), 86_400_000);
});

test("a sealed key opens with the region's secret, for what it was sealed for, and for nothing else", () => {
  const [secret, other] = [newSealingSecret(), newSealingSecret()];
  const sealed = sealWith(secret, "order a.test", "a key");
  assert.equal(openSealed(secret, "order a.test", sealed), "a key");
  assert.equal(openSealed(secret, "order b.test", sealed), undefined);
  assert.equal(openSealed(other, "order a.test", sealed), undefined);
  assert.equal(openSealed(secret, "order a.test", "broken"), undefined);
});
