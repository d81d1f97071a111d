/** The nonce of a lease travels to the worker that judges it, and its judgement back. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { HearthError } from "@hearth/errors";
import { startRegion, type TestRegion } from "../testing/fixture.ts";

let region: TestRegion;
let machine: string;
before(async () => {
  region = await startRegion();
  await region.createApp("web");
  const body = { config: { image: "app:1" }, skip_launch: true };
  const { json } = await region.call("POST", "/v1/apps/web/machines", body);
  machine = `/v1/apps/web/machines/${json.id}`;
});
after(async () => region[Symbol.asyncDispose]());
beforeEach(() => void region.worker.commands.splice(0));

interface LeaseFields {
  readonly nonce?: string;
  readonly lease_ttl_ms?: number;
}
const lastRequest = (): LeaseFields => (region.worker.commands.at(-1)?.request ?? {}) as LeaseFields;

const guarded: readonly (readonly [command: string, method: string, below: string, body?: object])[] = [
  ["start", "POST", "/start"],
  ["stop", "POST", "/stop", {}],
  ["restart", "POST", "/restart"],
  ["signal", "POST", "/signal", { signal: "SIGHUP" }],
  ["update", "POST", "", { config: { image: "app:2" } }],
  ["set-metadata", "POST", "/metadata/key", { value: "v" }],
  ["set-metadata", "PUT", "/metadata", { metadata: { key: "w" } }],
  ["set-metadata", "DELETE", "/metadata/key"],
  ["cordon", "POST", "/cordon"],
  ["uncordon", "POST", "/uncordon"],
  ["lease-acquire", "POST", "/lease"],
  ["lease-release", "DELETE", "/lease"],
  ["destroy", "DELETE", ""],
];

for (const [command, method, below, body] of guarded)
  test(`${method} ${below || "the machine"} is guarded by the lease`, async () => {
    const held = new HearthError("lease_held", {
      message: "machine ID x lease currently held by y, expires at z",
    });
    region.worker.refuse.set(command as never, held);
    const { status, json } = await region.call(method, machine + below, body, {
      "fly-machine-lease-nonce": "abc",
    });
    region.worker.refuse.clear();
    assert.equal(status, 409);
    assert.match(json.message, /lease currently held by/);
    assert.equal(json.status, "error", "as clients know the body");
    assert.equal(region.worker.commands.at(-1)?.name, command);
    assert.equal(lastRequest().nonce, "abc");
    await region.call(method, machine + below, body, { "fly-machine-lease-nonce": "" });
    assert.equal("nonce" in lastRequest(), false, "an empty one is none");
  });

test("a lease that is asked for with a create or an update is asked of the worker", async () => {
  const body = { config: { image: "app:1" }, skip_launch: true, lease_ttl: 30 };
  const { json } = await region.call("POST", "/v1/apps/web/machines", body);
  const asked = () => lastRequest().lease_ttl_ms;
  assert.equal(asked(), 30_000);
  await region.call("POST", `/v1/apps/web/machines/${json.id}`, { config: { image: "app:1" }, lease_ttl: 5 });
  assert.equal(asked(), 5_000);
});

test("a lease is held by its nonce alone: refreshed, refused, released", async () => {
  const body = { config: { image: "app:1" }, skip_launch: true };
  const { json: made } = await region.call("POST", "/v1/apps/web/machines", body);
  const path = `/v1/apps/web/machines/${made.id}/lease`;
  const call = async (method: string, query = "", nonce?: string, sent?: object) => {
    const headers: Record<string, string> = nonce === undefined ? {} : { "Fly-Machine-Lease-Nonce": nonce };
    const { status, json } = await region.call(method, path + query, sent, headers);
    return { status, json };
  };
  const none = await call("DELETE");
  assert.deepEqual(
    [none.status, none.json.code, none.json.message],
    [404, "lease_not_found", "lease not found"],
  );

  const acquired = await call("POST", "?ttl=120");
  assert.equal(acquired.status, 201);
  assert.equal((lastRequest() as { ttl_ms?: number }).ttl_ms, 120_000, "as Go clients say it");
  const { nonce } = acquired.json.data;
  const refreshed = await call("POST", "", nonce, { ttl: 300 });
  assert.equal(refreshed.status, 201);
  assert.equal(refreshed.json.data.nonce, nonce);
  assert.ok(refreshed.json.data.expires_at > acquired.json.data.expires_at);
  const read = await call("GET");
  assert.equal(read.status, 200);
  assert.equal("nonce" in read.json.data, false);
  for (const refused of [
    await call("POST", "?ttl=5"),
    await call("DELETE"),
    await call("DELETE", "", "other"),
  ]) {
    assert.equal(refused.status, 409);
    assert.equal(refused.json.code, "lease_held");
    assert.equal(JSON.stringify(refused.json).includes(nonce), false);
  }
  assert.deepEqual(await call("DELETE", "", nonce), {
    status: 200,
    json: { status: "success", data: { ok: true } },
  });
  assert.equal((await call("GET")).status, 404);
  for (const ttl of [0, -1, 86_401, 1.5]) {
    const refused = await call("POST", "", undefined, { ttl });
    assert.deepEqual([refused.status, refused.json.code], [400, "invalid_argument"], String(ttl));
  }
});
