/** Joining, as a host and as who should not: over HTTP, with a real bus. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import {
  factKeys,
  hearthVersion,
  type JoinFact,
  type JoinRequest,
  type NodeKeyFact,
  parseJoinToken,
} from "@hearth/machine";
import { RateLimit } from "../http/rate-limit.ts";
import { startRegion, type TestRegion, until } from "../testing/fixture.ts";

let region: TestRegion;
let skewMs = 0;
before(async () => {
  region = await startRegion({ skewMs: () => skewMs });
});
after(() => region[Symbol.asyncDispose]());

const base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const nkey = (prefix: string): string =>
  prefix + [...randomBytes(55)].map((byte) => base32[byte % base32.length]).join("");

async function until1st(): Promise<void> {
  const first: NodeKeyFact = {
    node_id: "node1",
    host_number: 1,
    roles: ["worker", "api", "bus"],
    node_key: nkey("U"),
    api_key: nkey("U"),
    bus: { client_url: "nats://192.0.2.1:4222", route_url: "192.0.2.1:6222" },
    api_url: "http://192.0.2.1:4280",
    address: "192.0.2.1",
    version: hearthVersion,
    joined_at_ms: 1,
  };
  await region.facts.publish(factKeys.nodeKey("node1"), first);
  await until(() => region.replica.get(factKeys.nodeKey("node1")) !== undefined, "the first host");
}

/** The secret of a new token. */
async function invite(wanted: object = {}): Promise<string> {
  const { status, json } = await region.call("POST", "/v1/nodes/join-tokens", wanted);
  assert.equal(status, 200, JSON.stringify(json));
  return parseJoinToken(json.token).secret;
}

const host = (secret: string, more: Partial<JoinRequest> = {}): JoinRequest => ({
  secret,
  node_id: `n${randomBytes(5).toString("hex")}`,
  node_key: nkey("U"),
  version: hearthVersion,
  now_ms: Date.now() + skewMs,
  address: "192.0.2.9",
  ...more,
});

/** Without the token of an operator. */
const joinAs = (request: unknown) =>
  region.call("POST", "/v1/nodes/join", request as object, { authorization: "" });

const keyOf = (nodeId: string) =>
  region.replica.get(factKeys.nodeKey(nodeId))?.value as NodeKeyFact | undefined;

test("a region whose API nobody reaches makes no tokens", async () => {
  const { status, json } = await region.call("POST", "/v1/nodes/join-tokens", {});
  assert.deepEqual([status, json.code], [409, "region_not_reachable"]);
  await until1st();
});

test("a host joins once, gets a number of its own, and may ask again for the same answer", async () => {
  const secret = await invite({ api: true });
  const asked = host(secret, { api_key: nkey("U"), api_port: 4444 });
  const first = await joinAs(asked);
  assert.equal(first.status, 200, first.text);
  assert.deepEqual(first.json.bus_servers, ["nats://192.0.2.1:4222"]);
  assert.deepEqual([first.json.region, first.json.roles], ["local", ["worker", "api"]]);
  const fact = keyOf(asked.node_id);
  assert.deepEqual(
    [fact?.node_key, fact?.api_key, fact?.api_url, fact?.host_number],
    [asked.node_key, asked.api_key, "http://192.0.2.9:4444", first.json.host_number],
  );
  assert.deepEqual((await joinAs(asked)).json, {
    ...first.json,
    api_urls: (await joinAs(asked)).json.api_urls,
  });
  const other = await joinAs(host(secret, { api_key: nkey("U") }));
  assert.deepEqual([other.status, other.json.code], [403, "join_token_used"]);
  const second = await joinAs(host(await invite()));
  assert.notEqual(second.json.host_number, first.json.host_number);
  assert.equal(keyOf(second.json.node_id)?.api_key, undefined);
});

test("only the hash of a secret is in the state, and the secret is in no log", async () => {
  const secret = await invite();
  await joinAs(host(secret));
  const state = JSON.stringify(region.replica.list(""));
  assert.equal(state.includes(secret), false);
  assert.equal(JSON.stringify(region.logs).includes(secret), false);
});

test("of two hosts with one token one joins, and hosts that join at once have different numbers", async () => {
  const secret = await invite();
  const race = await Promise.all([joinAs(host(secret)), joinAs(host(secret))]);
  assert.deepEqual(race.map(({ status }) => status).sort(), [200, 403]);
  const secrets = await Promise.all(Array.from({ length: 6 }, () => invite()));
  const answers = await Promise.all(secrets.map((each) => joinAs(host(each))));
  assert.deepEqual(
    answers.map(({ status }) => status),
    Array(6).fill(200),
  );
  assert.equal(new Set(answers.map(({ json }) => json.host_number)).size, 6);
});

test("a wrong and an expired token are told apart", async () => {
  const wrong = await joinAs(host("x".repeat(43)));
  assert.deepEqual([wrong.status, wrong.json.code], [403, "join_token_invalid"]);
  const secret = await invite({ ttl_seconds: 60 });
  skewMs = 61_000;
  const late = await joinAs(host(secret));
  skewMs = 0;
  assert.deepEqual([late.status, late.json.code], [403, "join_token_expired"]);
  const { join } = Object.fromEntries(
    region.replica.list("join.").map(({ value }) => ["join", value as JoinFact]),
  );
  assert.ok(join?.roles.includes("worker"));
});

test("an older version, a wrong clock and a taken id are refused, and the token stays good", async () => {
  const secret = await invite();
  const refusals = [
    [{ version: "0.0.9" }, "node_version_too_old", /0\.0\.9.*0\.1\.0/],
    [{ now_ms: Date.now() + 3_600_000 }, "clock_wrong", /3600 s ahead/],
    [{ now_ms: Date.now() - 3_600_000 }, "clock_wrong", /3600 s behind/],
    [{ node_id: "node1" }, "node_id_taken", /copied/],
    [{ address: "0:0:0:0:0:0:0:1" }, "invalid_argument", /--address/],
    [{ address: "127.0.0.1" }, "invalid_argument", /--address/],
  ] as const;
  for (const [more, code, text] of refusals) {
    const { json } = await joinAs(host(secret, more));
    assert.equal(json.code, code);
    assert.match(json.message, text);
  }
  assert.equal((await joinAs(host(secret))).status, 200);
});

test("a node that was removed comes back with a new token only, and has its number again", async () => {
  const secret = await invite();
  const asked = host(secret);
  const { json } = await joinAs(asked);
  const gone = await region.facts.delete(factKeys.nodeKey(asked.node_id));
  await region.replica.waitForRevision(factKeys.nodeKey(asked.node_id), gone, { timeoutMs: 5_000 });
  skewMs = 601_000;
  const refused = await joinAs({ ...asked, now_ms: Date.now() + skewMs });
  skewMs = 0;
  assert.equal(refused.json.code, "join_token_used");
  const again = await joinAs({ ...asked, secret: await invite(), node_key: nkey("U") });
  assert.deepEqual([again.status, again.json.host_number], [200, json.host_number]);
});

test("a host that brings no keys for its role, or what nobody knows, is refused by the field", async () => {
  const secret = await invite({ bus: true });
  const { json } = await joinAs(host(secret));
  assert.deepEqual([json.code, json.details.field], ["invalid_argument", "seal_key"]);
  for (const bad of [{ node_key: "x" }, { secret: 1 }, { extra: true }, { labels: { "A B": "x" } }])
    assert.equal((await joinAs({ ...host(secret), ...bad })).status, 400);
  const large = await joinAs({ ...host(secret), version: "x".repeat(20_000) });
  assert.equal(large.status, 413);
});

test("tries are counted by caller, and a flood of callers is one caller", () => {
  const limit = new RateLimit({ tries: 2, perMs: 1_000, maxKeys: 2 });
  assert.deepEqual([limit.admit("a", 0), limit.admit("a", 1), limit.admit("a", 2)], [true, true, false]);
  assert.equal(limit.admit("a", 1_000), true);
  assert.equal(limit.admit("b", 1_000), true);
  const flood = ["c", "d", "e"].map((key) => limit.admit(key, 1_001));
  assert.deepEqual(flood, [true, true, false]);
});
