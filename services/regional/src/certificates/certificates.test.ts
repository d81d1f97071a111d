/** The certificates part of the API without an authority; with one: test/e2e/certificates.test.ts. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ensureSealKey } from "@hearth/cluster";
import { type AcmeFact, factKeys, type NodeKeyFact } from "@hearth/machine";
import { selfSigned } from "@hearth/testkit";
import { startRegion, type TestRegion, until } from "../testing/fixture.ts";
import { judgeDomain } from "./domain-check.ts";

const domain = "apps.example.test";
const at = "/v1/apps/web/certificates";
let directory: string;
let region: TestRegion;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "hearth-certificates-"));
  const sealSeedPath = join(directory, "seal.seed");
  region = await startRegion({ certificates: () => ({ sealSeedPath, domain, resolvers: ["127.0.0.1#1"] }) });
  const key: NodeKeyFact = {
    ...{ node_id: "node1", host_number: 1, roles: ["worker", "api"], node_key: "U", address: "192.0.2.1" },
    ...{ seal_key: ensureSealKey(sealSeedPath), version: "0.1.0", joined_at_ms: 0 },
  };
  await region.facts.publish(factKeys.nodeKey("node1"), key);
  for (const app of ["web", "shop"]) await region.createApp(app);
  await until(() => region.replica.get(factKeys.certificateSecret()) !== undefined, "the secret", 10_000);
});
after(async () => {
  await region[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

const add = (hostname: string, app = "web") =>
  region.call("POST", `/v1/apps/${app}/certificates/acme`, { hostname });
const pair = (names: string) => {
  const { key, cert } = selfSigned("/O=Own", names);
  return { private_key: key, fullchain: cert };
};

test("a name is one app's; whoever else asks learns that it is taken, and not by whom", async () => {
  const made = await add("WWW.first.test");
  assert.equal(made.status, 201, made.text);
  assert.equal(made.json.hostname, "www.first.test");
  assert.equal(made.json.dns_requirements.cname, `web.${domain}`);
  assert.deepEqual(made.json.dns_requirements.a, ["192.0.2.1"]);
  assert.equal((await add("www.first.test")).status, 201, "its own again is no fault");
  const taken = await add("www.first.test", "shop");
  assert.deepEqual([taken.status, taken.json.code], [422, "hostname_taken"]);
  assert.doesNotMatch(taken.text, /web/);
  const unseen = await region.call("GET", "/v1/apps/shop/certificates/www.first.test");
  assert.deepEqual([unseen.status, unseen.json.code], [404, "hostname_not_found"]);
  const many = await Promise.all(["web", "shop"].map((app) => add("race.test", app)));
  assert.deepEqual(many.map(({ status }) => status).sort(), [201, 422]);
});

test("names of the region, and what is no name, are refused; the app's own name is not", async () => {
  for (const name of [domain, `shop.${domain}`, `a.web.${domain}`, "*.first.test", "10.0.0.1", "single"])
    assert.equal((await add(name)).json.code, "hostname_invalid", name);
  assert.equal((await add(`web.${domain}`)).status, 201);
});

test("an upload is kept sealed, shown without its key, and removed apart from the name", async () => {
  const hostname = "up.load.test";
  const { private_key, fullchain } = pair(`DNS:${hostname}`);
  const made = await region.call("POST", `${at}/custom`, { hostname, private_key, fullchain });
  assert.equal(made.status, 201, made.text);
  assert.deepEqual(
    [made.json.status, made.json.acme_requested, made.json.certificates[0].source],
    ["active", false, "custom"],
  );
  assert.equal(made.json.certificates[0].issued[0].type, "ecdsa");
  assert.doesNotMatch(made.text + JSON.stringify(region.replica.list("hostname.")), /PRIVATE KEY/);
  const wrong = await region.call("POST", `${at}/custom`, {
    hostname,
    fullchain,
    private_key: pair("DNS:x.test").private_key,
  });
  assert.deepEqual([wrong.status, wrong.json.code], [422, "certificate_invalid"]);
  const left = await region.call("DELETE", `${at}/${hostname}/custom`);
  assert.deepEqual([left.status, left.json.certificates], [200, []]);
  assert.equal((await region.call("DELETE", `${at}/${hostname}`)).status, 204);
  assert.equal((await region.call("GET", `${at}/${hostname}`)).status, 404);
});

test("a list is by name, in pages, with a count of all", async () => {
  for (const name of ["c.list.test", "a.list.test", "b.list.test"]) await add(name);
  const page = (query: string) => region.call("GET", `${at}?filter=LIST.test&${query}`);
  const first = (await page("limit=2")).json;
  assert.deepEqual(
    [first.certificates.map(({ hostname }: { hostname: string }) => hostname), first.total_count],
    [["a.list.test", "b.list.test"], 3],
  );
  const second = (await page(`limit=2&cursor=${first.next_cursor}`)).json;
  assert.deepEqual([second.certificates[0].hostname, second.next_cursor], ["c.list.test", undefined]);
});

test("what an authority said is shown; a check brings the next attempt forward only when it may", async () => {
  const hostname = "failed.test";
  await add(hostname);
  const nowMs = Date.now();
  const failure = { code: "unauthorized", message: "in its own words", at_ms: nowMs };
  const fact: AcmeFact = {
    ...{ hostname, directory: "https://ca.test/dir", term: 1, beat: 1, failed: 2, failures: [failure] },
    ...{ attempts_ms: [nowMs - 120_000], next_attempt_ms: nowMs + 3_600_000 },
  };
  const after = async (changes: Partial<AcmeFact>): Promise<number> => {
    const revision = await region.facts.publish(factKeys.acme(hostname), { ...fact, ...changes });
    await region.replica.waitForRevision(factKeys.acme(hostname), revision, { timeoutMs: 5_000 });
    const { status, json } = await region.call("POST", `${at}/${hostname}/check`);
    assert.equal(status, 200);
    assert.equal(json.validation_errors[0].message, "in its own words");
    return Date.parse(json.next_attempt_at) - nowMs;
  };
  assert.ok((await after({})) < 60_000, "now");
  assert.ok((await after({ attempts_ms: [nowMs] })) > 3_000_000, "an attempt was just made");
  assert.ok(
    (await after({ attempts_ms: [1, 2, 3, 4, 5].map((ago) => nowMs - ago * 120_000) })) > 3_000_000,
    "five",
  );
  assert.ok((await after({ rate_limited_until_ms: nowMs + 3_600_000 })) > 3_000_000, "the authority said so");
});

test("names go with their app, and an app that comes by the same name has none", async () => {
  await region.createApp("gone");
  await add("kept.gone.test", "gone");
  assert.equal((await region.call("DELETE", "/v1/apps/gone")).status, 202);
  assert.equal(region.replica.get(factKeys.hostname("kept.gone.test")), undefined);
  assert.equal((await add("kept.gone.test", "shop")).status, 201);
});

test("a name leads here by an address of the region or by the app's own name; a resolver that is away proves nothing", () => {
  const expected = { addresses: new Set(["192.0.2.1", "2001:db8::1"]), cname: `web.${domain}` };
  const judge = (records: object) => {
    const none = { a: [], aaaa: [], cname: [], ownership: [], resolved: [] };
    const { leadsHere, isWhole, hasOwnership } = judgeDomain({ ...none, ...records }, expected, ["app-1"]);
    return [leadsHere, isWhole, hasOwnership];
  };
  assert.deepEqual(judge({ a: ["192.0.2.1"], aaaa: ["2001:db8::1"] }), [true, true, false]);
  assert.deepEqual(judge({ a: ["192.0.2.1", "198.51.100.9"] }), [true, false, false], "half of it");
  assert.deepEqual(judge({ a: ["198.51.100.9"], cname: [`web.${domain}`] }), [true, true, false]);
  assert.deepEqual(judge({ cname: [`web.${domain}`], ownership: ["app-1"] }), [false, false, true]);
  assert.deepEqual(judge({ failure: "ETIMEOUT" }), [false, false, false]);
});
