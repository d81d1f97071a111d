/** What lasts longer than its token. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { HearthClient, type Target } from "@hearth/sdk";
import { FakeData } from "../testing/fake-data.ts";
import { FakePrograms } from "../testing/fake-programs.ts";
import { startRegion, type TestRegion, testToken, until } from "../testing/fixture.ts";
import { clockToleranceMs } from "./token-verify.ts";

const programs = new FakePrograms();
const data = new FakeData();
/** Within which a revocation ends what is under way, with room for a busy machine. */
const limitMs = 10_000;
let region: TestRegion;
let target: Target;
before(async () => {
  region = await startRegion({
    streams: { ...data.handlers, ...programs.handlers },
    // So long that it is the revocation that ends things.
    recheckMs: 60_000,
  });
  await region.createApp("web");
  const client = new HearthClient({ apiUrl: region.url, token: testToken });
  target = { app: "web", id: (await client.machines.create("web", { config: { image: "app:1" } })).id };
});
after(async () => region[Symbol.asyncDispose]());

const issue = async (body: object): Promise<{ id: string; token: string; client: HearthClient }> => {
  const { json } = await region.call("POST", "/v1/tokens", body);
  return { ...json, client: new HearthClient({ apiUrl: region.url, token: json.token }) };
};
const withinMs = async <T>(what: Promise<T>, limitMs: number): Promise<T> => {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`not within ${limitMs} ms`)), limitMs);
  return Promise.race([what, late.promise]).finally(() => clearTimeout(timer));
};
const ofRefusal = (error: Error & { code?: string }): boolean =>
  error.code === "unauthenticated" || error.message.includes("token validation error");

test("a session ends when its token is revoked, and says why", async () => {
  const { id, client } = await issue({ level: "exec", machines: [target.id] });
  const session = await client.machines.exec(target, { command: ["obeys"], stdin: true });
  session.stdout.resume();
  session.stderr.resume();
  const over = assert.rejects(session.exit, ofRefusal);
  await region.call("DELETE", `/v1/tokens/${id}`);
  await withinMs(over, limitMs);
});

test("a session ends soon after its token does, and goes on within the tolerance of clocks", async () => {
  let aheadMs = 0;
  await using second = await startRegion({
    streams: programs.handlers,
    skewMs: () => aheadMs,
    recheckMs: 50,
  });
  await second.createApp("web");
  const operator = new HearthClient({ apiUrl: second.url, token: testToken });
  const { id } = await operator.machines.create("web", { config: { image: "app:1" } });
  const { token } = (await second.call("POST", "/v1/tokens", { level: "exec", expires_in: 600 })).json;
  const client = new HearthClient({ apiUrl: second.url, token });
  const session = await client.machines.exec({ app: "web", id }, { command: ["obeys"], stdin: true });
  session.stdout.resume();
  session.stderr.resume();
  const over = assert.rejects(session.exit, ofRefusal);
  aheadMs = 600_000;
  assert.equal(await client.tokens.current().then(([one]) => one?.level), "exec");
  aheadMs += clockToleranceMs;
  await withinMs(over, limitMs);
});

test("a log that is followed ends when its token is revoked, with the reason as its last line", async () => {
  const { id, token } = await issue({ level: "exec" });
  data.hold();
  const path = `/v1/apps/web/machines/${target.id}/logs?follow=true&tail=0`;
  const answer = await fetch(`${region.url}${path}`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(answer.status, 200);
  const text = answer.text();
  await region.call("DELETE", `/v1/tokens/${id}`);
  const last = JSON.parse((await withinMs(text, limitMs)).trim().split("\n").at(-1) ?? "");
  assert.deepEqual([last.kind, last.error.code], ["error", "unauthenticated"]);
  data.letGo();
});

test("a request that is under way is cut off when its token is revoked, and its program ended", async () => {
  const { id, token } = await issue({ level: "exec" });
  const before = programs.runs.length;
  const over = assert.rejects(
    fetch(`${region.url}/v1/apps/web/machines/${target.id}/exec`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ command: ["waits"] }),
    }),
  );
  await until(() => programs.runs.length > before, "the program");
  const run = programs.last;
  await region.call("DELETE", `/v1/tokens/${id}`);
  await withinMs(over, limitMs);
  await until(() => run?.ended !== undefined, "the end of the program");
});

test("a session with a token that may not is refused before it begins", async () => {
  const { client } = await issue({ level: "read-only" });
  await assert.rejects(client.machines.exec(target, { command: ["obeys"] }), { code: "permission_denied" });
});
