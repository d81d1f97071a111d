/** What an API says of an app or a machine that it does not know: only one that has heard the newest may deny it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { factKeys, factPrefixes, type MachineFact, type MachineId } from "@hearth/machine";
import { jetstream } from "@nats-io/jetstream";
import { headers } from "@nats-io/nats-core";
import { claimKey } from "../http/idempotency.ts";
import { ClusterView } from "../state/cluster-view.ts";
import { startRegion, until } from "../testing/fixture.ts";

const unknown = "/v1/apps/web/machines/0123456789abcd";

test("an API whose copy of the state is the newest says that a machine does not exist; one that lags says that it does not know", async () => {
  await using region = await startRegion();
  await region.createApp("web");
  await until(() => region.replica.isSettled && region.replica.ageMs < 2_000, "a copy that is the newest");
  const denied = await region.call("GET", unknown);
  assert.deepEqual([denied.status, denied.json.code], [404, "machine_not_found"]);
  await region.bus.close();
  assert.equal(region.replica.isSettled, false);
  for (const [method, path] of [
    ["GET", unknown],
    ["POST", `${unknown}/start`],
    ["DELETE", unknown],
  ] as const) {
    const { status, json } = await region.call(method, path);
    assert.deepEqual([status, json.code], [503, "unavailable"], `${method} ${path}`);
    assert.match(json.message, /try again/);
  }
});

test("an API that lags hides a machine outside of the caller's sight by the same answer", async () => {
  await using region = await startRegion();
  await region.createApp("web");
  const create = async (): Promise<string> => {
    const body = { config: { image: "app:1" }, skip_launch: true };
    const { status, json, text } = await region.call("POST", "/v1/apps/web/machines", body);
    assert.equal(status, 200, text);
    return json.id;
  };
  const [seen, hidden] = [await create(), await create()];
  const scope = { level: "read-only", apps: ["web"], machines: [seen, "0123456789abcd"] };
  const issued = await region.call("POST", "/v1/tokens", scope);
  assert.equal(issued.status, 201, issued.text);
  const look = (id: string) =>
    region.call("GET", `/v1/apps/web/machines/${id}`, undefined, {
      authorization: `Bearer ${issued.json.token}`,
    });
  await until(() => region.replica.isSettled && region.replica.ageMs < 2_000, "a copy that is the newest");
  const answers = async () =>
    (await Promise.all([hidden, "0123456789abcd"].map(look))).map(({ json }) => json.code);
  assert.deepEqual(await answers(), ["machine_not_found", "machine_not_found"]);
  await region.bus.close();
  assert.deepEqual(await answers(), ["unavailable", "unavailable"]);
});

test("an API that lags says of an app too that it does not know it, and hides one outside of the caller's sight by that", async () => {
  await using region = await startRegion();
  await region.createApp("web");
  await region.createApp("hidden");
  const issued = await region.call("POST", "/v1/tokens", { level: "deploy", apps: ["web"] });
  assert.equal(issued.status, 201, issued.text);
  const headers = { authorization: `Bearer ${issued.json.token}` };
  await until(() => region.replica.isSettled && region.replica.ageMs < 2_000, "a copy that is the newest");
  const answers = async () => {
    const all = [
      region.call("GET", "/v1/apps/none"),
      region.call("POST", "/v1/apps/none/machines", { config: { image: "app:1" } }),
      region.call("DELETE", "/v1/apps/none"),
      region.call("GET", "/v1/apps/none", undefined, headers),
      region.call("GET", "/v1/apps/hidden", undefined, headers),
    ];
    return (await Promise.all(all)).map(({ status, json }) => `${status} ${json.code}`);
  };
  assert.deepEqual(new Set(await answers()), new Set(["404 app_not_found"]));
  await region.bus.close();
  assert.deepEqual(new Set(await answers()), new Set(["503 unavailable"]));
  const { status } = await region.call("GET", "/v1/apps/web");
  assert.equal(status, 200, "what it knows it shows");
});

test("a promise that is put back, as the stream had lost it, brings no machine back that is gone", async () => {
  await using region = await startRegion();
  await region.createApp("web");
  await until(() => region.replica.isSettled && region.replica.ageMs < 2_000, "a copy that is the newest");
  const key = factKeys.machineName("web", "gone");
  const head = headers();
  head.set("Hearth-Origin-Stream", "the stream of before");
  head.set("Hearth-Origin-Revision", "7");
  const value = { machine_id: "0123456789abcd", taken_at_ms: Date.now() };
  const { seq } = await jetstream(region.bus.connection).publish(`state.${key}`, JSON.stringify(value), {
    headers: head,
  });
  await region.replica.waitForRevision(key, seq, { timeoutMs: 5_000 });
  assert.equal((await region.call("GET", unknown)).status, 404);
});

test("who waits for a machine that was promised waits for its worker's word, and for no other machine", async () => {
  await using region = await startRegion();
  await region.createApp("web");
  await until(() => region.replica.isSettled && region.replica.ageMs < 2_000, "a copy that is the newest");
  await region.call("POST", "/v1/apps/web/machines", { config: { image: "app:1" } });
  const [like] = region.replica.list(factPrefixes.machine).map(({ value }) => value as MachineFact);
  assert.ok(like !== undefined);
  const id = "0123456789abcd" as MachineId;
  const promise = { machine_id: id, taken_at_ms: Date.now() };
  const key = factKeys.machineName("web", "promised");
  const revision = await region.facts.publish(key, promise);
  await region.replica.waitForRevision(key, revision, { timeoutMs: 5_000 });
  const wait = (machineId: string, seconds: number) =>
    region.call(
      "GET",
      `/v1/apps/web/machines/${machineId}/wait?timeout=${seconds}&state=created&state=started`,
    );
  assert.equal((await wait("0123456789abce", 60)).status, 404, "another, at once");
  assert.deepEqual((await wait(id, 1)).json.code, "unavailable", "no longer than it was asked to");
  const waiting = wait(id, 20);
  const fact = { ...like, record: { ...like.record, id, state: "started" } };
  await region.facts.publish(factKeys.machine(like.node_id, id), fact);
  const waited = await waiting;
  assert.equal(waited.status, 200, waited.text);
});

test("a machine that was promised is not denied until its worker has had time to speak of it, nor is its name given away", async () => {
  let [monotonicMs, skewMs] = [0, 0];
  await using region = await startRegion({ monotonicMs: () => monotonicMs, skewMs: () => skewMs });
  await region.createApp("web");
  await until(() => region.replica.isSettled && region.replica.ageMs < 2_000, "a copy that is the newest");
  const promise = { machine_id: "0123456789abcd", taken_at_ms: Date.now() };
  const key = factKeys.machineName("web", "promised");
  const revision = await region.facts.publish(key, promise);
  await region.replica.waitForRevision(key, revision, { timeoutMs: 5_000 });
  const create = async () => {
    const body = { name: "promised", config: { image: "app:1" }, skip_launch: true };
    return await region.call("POST", "/v1/apps/web/machines", body);
  };
  // The host that promised may have a clock that is an hour behind.
  for (const skew of [0, 3_600_000, -3_600_000]) {
    skewMs = skew;
    const { status, json } = await region.call("GET", unknown);
    assert.deepEqual([status, json.code], [503, "unavailable"]);
    assert.equal((await create()).json.code, "name_taken");
  }
  assert.equal((await region.call("GET", "/v1/apps/web/machines/0123456789abce")).status, 404, "another");
  monotonicMs = 60_001;
  await region.worker.publishNode();
  assert.equal((await region.call("GET", unknown)).status, 404);
  const made = await create();
  assert.equal(made.status, 200, made.text);
});

test("the key of a create counts for an API whose clock is an hour ahead of that of the first", async () => {
  await using region = await startRegion();
  const clocks = { nowMs: Date.now, monotonicMs: () => performance.now() };
  const view = new ClusterView(region.replica, clocks);
  const claim = (aheadMs: number, machineId: string) => {
    const deps = { view, facts: () => region.facts, nowMs: () => Date.now() + aheadMs };
    return claimKey(deps, { app: "web", key: "k", body: {} }, machineId as MachineId);
  };
  const first = await claim(0, "0123456789abcd");
  const second = await claim(3_600_000, "0123456789abce");
  assert.deepEqual([first.isReplay, second.isReplay, second.machineId], [false, true, "0123456789abcd"]);
});
