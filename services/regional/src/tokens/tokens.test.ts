/** Signed tokens over HTTP, with two API processes on one real bus. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair, SignJWT } from "jose";
import { startRegion, type TestRegion, testToken, until } from "../testing/fixture.ts";
import { sha256 } from "./operator-tokens.ts";
import { hashId, tokenType } from "./token-verify.ts";

let region: TestRegion;
let other: Awaited<ReturnType<TestRegion["addApi"]>>;
let skewMs = 0;
before(async () => {
  region = await startRegion({ skewMs: () => skewMs });
  other = await region.addApi("node2");
  for (const app of ["web", "shop"]) await region.createApp(app);
});
after(async () => region[Symbol.asyncDispose]());

interface Issued {
  readonly id: string;
  readonly token: string;
}
const issue = async (body: object, by = testToken): Promise<Issued> => {
  const { status, json, text } = await region.call("POST", "/v1/tokens", body, bearer(by));
  assert.equal(status, 201, text);
  return json as Issued;
};
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const as = (token: string, method: string, path: string, body?: unknown) =>
  region.call(method, path, body, bearer(token));
const reasonOf = async (authorization: string, url = region.url): Promise<unknown> => {
  const answer = await fetch(`${url}/v1/apps`, { headers: { authorization } });
  const { code, details } = (await answer.json()) as { code?: string; details?: { reason?: string } };
  if (answer.status === 200) return "good";
  assert.deepEqual([answer.status, code], [401, "unauthenticated"]);
  return details?.reason;
};

test("a token issued at one API is good at another, which has its key and its fact from the replica", async () => {
  const { token } = await issue({ level: "read-only", apps: ["web"] });
  assert.equal(await reasonOf(`Bearer ${token}`, other.url), "good");
  const answer = await fetch(`${other.url}/v1/apps`, { headers: bearer(token) });
  const { apps } = (await answer.json()) as { apps: { name: string }[] };
  assert.deepEqual(
    apps.map(({ name }) => name),
    ["web"],
  );
});

test("the operator's token of the first host is good at an API that has none", async () => {
  await until(() => other.replica.get("admin-token.node1") !== undefined, "the hash of the token");
  assert.equal(await reasonOf(`Bearer ${testToken}`, other.url), "good");
});

test("state holds the hash of the id and never the token or its id", async () => {
  const { token } = await issue({ level: "exec", label: "ci" });
  const { jti = "", exp = 0 } = decodeJwt(token);
  const fact = region.replica.get(`token.${hashId(jti)}`)?.value as { expires_at_ms: number };
  assert.equal(fact.expires_at_ms, exp * 1000);
  const stored = JSON.stringify(region.replica.list(""));
  for (const secret of [token, jti, testToken]) assert.ok(!stored.includes(secret));
  assert.ok(region.replica.get(`token.${hashId(jti)}`));
  assert.deepEqual(Object.keys(decodeProtectedHeader(token)).sort(), ["alg", "kid", "typ"]);
});

test("a revoked token is refused by every API, and so is what was issued from it", async () => {
  const parent = await issue({ level: "deploy", apps: ["web"] });
  const child = await issue({ level: "exec" }, parent.token);
  const grandchild = await issue({ level: "read-only" }, child.token);
  const aside = await issue({ level: "deploy", apps: ["web"] });
  for (const { token } of [parent, child, grandchild])
    assert.equal(await reasonOf(`Bearer ${token}`, other.url), "good");
  const { status, json } = await region.call("DELETE", `/v1/tokens/${parent.id}`);
  assert.equal(status, 200);
  assert.ok(json.revoked_at);
  const hash = hashId(decodeJwt(parent.token).jti ?? "");
  const seen = () =>
    (other.replica.get(`token.${hash}`)?.value as { revoked_at_ms?: number } | undefined)?.revoked_at_ms;
  await until(() => seen() !== undefined, "the revocation at the other API");
  for (const url of [region.url, other.url]) {
    for (const { token } of [parent, child, grandchild])
      assert.equal(await reasonOf(`Bearer ${token}`, url), "revoked");
    assert.equal(await reasonOf(`Bearer ${aside.token}`, url), "good");
  }
});

test("a token issues only narrower ones, and lists and revokes only what came from it", async () => {
  const parent = await issue({ level: "exec", apps: ["web"], expires_in: 600 });
  const tries = [
    [{ level: "deploy" }, ["verb deploy"]],
    [{ apps: ["web", "shop"] }, ["app shop"]],
    [{ org: "other" }, ["org other"]],
    [{ expires_in: 900 }, ["expires_in"]],
  ] as const;
  for (const [body, wider] of tries) {
    const { status, json } = await as(parent.token, "POST", "/v1/tokens", body);
    assert.deepEqual([status, json.code, json.details.wider], [403, "permission_denied", wider]);
  }
  const child = await issue({}, parent.token);
  const stranger = await issue({ level: "read-only", apps: ["web"] });
  const { json } = await as(parent.token, "GET", "/v1/tokens");
  assert.deepEqual(json.tokens.map(({ id }: Issued) => id).sort(), [parent.id, child.id].sort());
  assert.equal((await as(parent.token, "DELETE", `/v1/tokens/${stranger.id}`)).status, 404);
  assert.equal((await as(child.token, "DELETE", `/v1/tokens/${parent.id}`)).status, 404);
  assert.equal((await as(parent.token, "DELETE", `/v1/tokens/${child.id}`)).status, 200);
  const current = (await as(parent.token, "GET", "/v1/tokens/current")).json.tokens;
  assert.deepEqual([current[0].token_id, current[0].level, current[0].apps], [parent.id, "exec", ["web"]]);
});

test("a list of tokens may do what each may, and pages hold together", async () => {
  const [web, shop] = [await issue({ apps: ["web"] }), await issue({ apps: ["shop"], level: "deploy" })];
  const both = `FlyV1 ${web.token},${shop.token}`;
  const listed = await region.call("GET", "/v1/apps", undefined, { authorization: both });
  assert.deepEqual(listed.json.apps.map(({ name }: { name: string }) => name).sort(), ["shop", "web"]);
  const denied = await region.call("DELETE", "/v1/apps/web", undefined, { authorization: both });
  assert.deepEqual([denied.status, denied.json.details.verb], [403, "deploy"]);
  assert.equal(await reasonOf(`FlyV1 fm2_foreign,${web.token}`), "good");
  assert.equal(await reasonOf(`Bearer ${Array(9).fill(web.token).join(",")}`), "malformed");
  const ids: string[] = [];
  for (let cursor = ""; ; ) {
    const { json } = await region.call("GET", `/v1/tokens?limit=2&cursor=${cursor}`);
    ids.push(...json.tokens.map(({ id }: Issued) => id));
    cursor = json.next_cursor;
    if (cursor === "") break;
  }
  assert.ok(ids.length >= 8);
  assert.equal(new Set(ids).size, ids.length);
});

test("each way of being no good has its name, and nothing else is told", async () => {
  const { token } = await issue({ level: "read-only", expires_in: 300 });
  const [head, body, signature] = token.split(".") as [string, string, string];
  const { privateKey } = await generateKeyPair("EdDSA");
  const claims = new SignJWT({ ...decodeJwt(token) });
  const forged = await claims.setProtectedHeader(decodeProtectedHeader(token) as never).sign(privateKey);
  const strange = await new SignJWT({})
    .setProtectedHeader({ alg: "EdDSA", kid: "A".repeat(43), typ: tokenType })
    .sign(privateKey);
  const unsigned = `${Buffer.from(JSON.stringify({ ...decodeProtectedHeader(token), alg: "none" })).toString("base64url")}.${body}.`;
  assert.equal(await reasonOf(`Bearer ${token}`), "good");
  assert.equal(await reasonOf(`Bearer ${forged}`), "bad_signature");
  assert.equal(await reasonOf(`Bearer ${strange}`), "unknown_key");
  assert.equal(await reasonOf(`Bearer ${unsigned}`), "malformed");
  assert.equal(await reasonOf(`Bearer ${head}.${signature}.${body}`), "bad_signature");
  assert.equal(await reasonOf("Bearer test-token-01234567890"), "malformed");
  assert.equal(await reasonOf("Basic abc"), "malformed");
  assert.equal(await reasonOf(""), "missing");
  const pre = skewMs;
  try {
    skewMs = 300_000 + 61_000;
    assert.equal(await reasonOf(`Bearer ${token}`), "expired");
    // Issued by a clock that is an hour ahead of the one that checks it.
    skewMs = -3_600_000;
    assert.equal(await reasonOf(`Bearer ${token}`), "good");
  } finally {
    skewMs = pre;
  }
});

test("a token whose fact, or whose parent's, is not there is refused: nobody knows whether it was revoked", async () => {
  const parent = await issue({ level: "exec" });
  const child = await issue({}, parent.token);
  await region.facts.delete(`token.${hashId(decodeJwt(parent.token).jti ?? "")}`);
  await until(
    () => region.replica.get(`token.${hashId(decodeJwt(parent.token).jti ?? "")}`) === undefined,
    "it",
  );
  assert.equal(await reasonOf(`Bearer ${parent.token}`), "unknown");
  assert.equal(await reasonOf(`Bearer ${child.token}`), "unknown");
});

test("a key under a name that is not its own is no key", async () => {
  const { privateKey, publicKey } = await generateKeyPair("EdDSA");
  const { x } = await exportJWK(publicKey);
  const kid = "B".repeat(43);
  await region.facts.publish(`signing-key.${kid}`, { kid, x, node_id: "node1" });
  await until(() => region.replica.get(`signing-key.${kid}`) !== undefined, "the key");
  const { token } = await issue({});
  const forged = await new SignJWT({ ...decodeJwt(token) })
    .setProtectedHeader({ alg: "EdDSA", kid, typ: tokenType })
    .sign(privateKey);
  assert.equal(await reasonOf(`Bearer ${forged}`), "unknown_key");
});

test("no text whatever is answered with anything but 401", async () => {
  const { token } = await issue({ level: "read-only" });
  const piece = fc.oneof(
    fc.string({ unit: "grapheme-ascii" }),
    fc.constantFrom(".", ",", ...token.split(".")),
  );
  const header = fc.tuple(fc.constantFrom("Bearer ", "FlyV1 ", ""), fc.array(piece, { maxLength: 6 }));
  const cut = fc.nat(token.length - 2).map((at) => `Bearer ${token.slice(0, at)}${token.slice(at + 1)}`);
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        header.map(([scheme, parts]) => scheme + parts.join("")),
        cut,
      ),
      async (text) => {
        if (text.includes(token)) return;
        const answer = await fetch(`${region.url}/v1/apps`, { headers: { authorization: text.trim() } });
        assert.equal(answer.status, 401, text);
        await answer.arrayBuffer();
      },
    ),
    { numRuns: 300 },
  );
});

test("a deploy token as clients of the field ask for it", async () => {
  const { status, json } = await region.call("POST", "/v1/apps/web/deploy_token", { expiry: "1h" });
  assert.equal(status, 200);
  assert.equal((await as(json.token, "GET", "/v1/apps/web")).status, 200);
  assert.equal((await as(json.token, "GET", "/v1/apps/shop")).status, 404);
  const elsewhere = { app_name: "web2", org_slug: "personal" };
  assert.equal((await as(json.token, "POST", "/v1/apps", elsewhere)).status, 403);
  assert.equal((await region.call("POST", "/v1/apps/web/deploy_token", { expiry: "9000h" })).status, 400);
});

test("an app of another org that takes a name that is free again is not in the scope", async () => {
  await region.createApp("reborn");
  const { token } = await issue({ level: "deploy", apps: ["reborn"] });
  assert.equal((await as(token, "DELETE", "/v1/apps/reborn")).status, 202);
  await region.call("POST", "/v1/apps", { app_name: "reborn", org_slug: "rivals" });
  assert.equal((await as(token, "GET", "/v1/apps/reborn")).status, 404);
});

test("an operator's token that was replaced is refused everywhere", async () => {
  const next = "another-operator-token-0123";
  const hash = sha256(next).toString("hex");
  const admin = await issue({ level: "admin" });
  assert.equal((await as(admin.token, "PUT", "/v1/tokens/admin", { sha256: hash })).status, 403);
  assert.equal((await region.call("PUT", "/v1/tokens/admin", { sha256: hash })).status, 200);
  const fact = () => other.replica.get("admin-token.node1")?.value as { sha256: string };
  await until(() => fact().sha256 === hash, "the new hash at the other API");
  for (const url of [region.url, other.url]) {
    assert.equal(await reasonOf(`Bearer ${testToken}`, url), "malformed");
    assert.equal(await reasonOf(`Bearer ${next}`, url), "good");
  }
});
