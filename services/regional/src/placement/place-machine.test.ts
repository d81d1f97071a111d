/** Where machines go, through the API: who was considered, who refused, and what the answer says of it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HearthError } from "@hearth/errors";
import { factKeys } from "@hearth/machine";
import { startRegion, type TestRegion, testToken, until } from "../testing/fixture.ts";

const create = (region: TestRegion, fields: object = {}, config: object = {}) =>
  region.call("POST", "/v1/apps/web/machines", {
    ...{ skip_launch: true, ...fields },
    config: { image: "app:1", ...config },
  });
const node = async (region: TestRegion, id: string) => {
  const { json } = await region.call("GET", "/v1/nodes");
  return json.find(({ node_id }: { node_id: string }) => node_id === id);
};
const codes = (considered: readonly { node_id: string; code: string }[]) =>
  Object.fromEntries(considered.map(({ node_id, code }) => [node_id, code]));

describe("a machine is placed", { timeout: 60_000 }, () => {
  test("and the answer says who was considered, and why not another", async () => {
    await using region = await startRegion();
    await region.createApp("web");
    await region.addNode("small", { freeMemoryMb: 100 });
    const { worker: tight } = await region.addNode("tight", { freeMemoryMb: 512 });
    tight.refuse.set("reserve", new HearthError("insufficient_capacity"));
    const { status, json } = await create(region);
    assert.equal(status, 200);
    assert.equal(json.placement.node_id, "node1");
    assert.equal(json.placement.nodes, 3);
    assert.deepEqual(codes(json.placement.considered), {
      tight: "refused",
      node1: "chosen",
      small: "memory",
    });
    assert.deepEqual(json.placement.passed_over, { refused: 1, memory: 1 });
    const commit = region.worker.commands.find(({ name }) => name === "commit");
    assert.ok(commit?.name === "commit");
    assert.equal(commit.request.fence, 1, "the fence of its reservation");
    assert.deepEqual(commit.request.placement, json.placement, "kept by the worker, for explain");
  });

  test("on the next node when the room that was held has been given away", async () => {
    await using region = await startRegion();
    await region.createApp("web");
    for (const [id, code] of [
      ["late", "reservation_expired"],
      ["other", "reservation_not_held"],
    ] as const) {
      const { worker } = await region.addNode(id, { freeMemoryMb: 1024 });
      worker.refuse.set("commit", new HearthError(code));
    }
    const { json } = await create(region);
    assert.deepEqual(codes(json.placement.considered), {
      late: "refused",
      other: "refused",
      node1: "chosen",
    });
  });

  test("on a node with the labels that it asks for, or refused with the reason of each", async () => {
    await using region = await startRegion();
    await region.createApp("web");
    const { worker } = await region.addNode("fast");
    const revision = await region.facts.publish(factKeys.node("fast"), {
      ...(await worker.publishNode()),
      labels: { disk: "nvme" },
    });
    await region.replica.waitForRevision(factKeys.node("fast"), revision, { timeoutMs: 5_000 });
    const placement = { labels: { disk: "nvme" } };
    const { json } = await create(region, {}, { placement });
    assert.equal(json.placement.node_id, "fast");
    assert.deepEqual(json.config.placement, placement);
    assert.deepEqual(json.warnings ?? [], []);
    const none = await create(region, {}, { placement: { labels: { disk: "tape" } } });
    assert.deepEqual([none.status, none.json.code], [409, "insufficient_capacity"]);
    assert.match(none.json.error, /node1 has not the label disk=tape/);
    const odd = await create(region, {}, { placement: { colour: "red" } });
    assert.deepEqual([odd.json.code, odd.json.details.field], ["unknown_field", "config.placement.colour"]);
  });

  test("apart from its like: where there is room by itself, and always with anti_affinity", async () => {
    await using region = await startRegion();
    await region.createApp("web");
    await region.addNode("node2");
    const nodes = new Set<string>();
    for (let count = 0; count < 2; count += 1) nodes.add((await create(region)).json.placement.node_id);
    assert.deepEqual([...nodes].sort(), ["node1", "node2"]);
    assert.equal((await create(region)).status, 200, "a third is spread no more");
    const refused = await create(region, {}, { placement: { anti_affinity: true } });
    assert.equal(refused.status, 409);
    assert.deepEqual(refused.json.details.passed_over, { anti_affinity: 2 });
  });

  test("not on a node that is cordoned or being drained, which /v1/nodes shows", async () => {
    await using region = await startRegion();
    await region.createApp("web");
    const policy = (cordoned: boolean, draining: boolean) =>
      region.facts.publish(factKeys.nodePolicy("node1"), {
        ...{ node_id: "node1", cordoned, draining, changed_at_ms: 0 },
      });
    for (const [cordoned, draining, code] of [
      [true, false, "cordoned"],
      [false, true, "draining"],
    ] as const) {
      const revision = await policy(cordoned, draining);
      await region.replica.waitForRevision(factKeys.nodePolicy("node1"), revision, { timeoutMs: 5_000 });
      const { json } = await create(region);
      assert.deepEqual(json.details.passed_over, { [code]: 1 });
      const shown = await node(region, "node1");
      assert.deepEqual([shown.cordoned, shown.draining, shown.schedulable], [cordoned, draining, false]);
    }
  });
});

describe("a node whose clock is off", { timeout: 60_000 }, () => {
  for (const hours of [1, -1])
    test(`by ${hours} h gets machines all the same, and /v1/nodes warns of it`, async () => {
      await using region = await startRegion();
      await region.createApp("web");
      await region.worker.publishNode({ published_at_ms: Date.now() + hours * 3_600_000 });
      await until(
        () => Math.abs(Number(region.replica.get(factKeys.node("node1"))?.revision)) > 1,
        "the node's next word",
      );
      assert.equal((await create(region)).json.placement.node_id, "node1");
      const shown = await node(region, "node1");
      assert.equal(shown.schedulable, true);
      assert.ok(Math.abs(shown.clock_skew_ms - hours * 3_600_000) < 60_000, String(shown.clock_skew_ms));
      assert.match(shown.warnings.at(-1), /clock is 3\d{3} s (ahead|behind)/);
      assert.ok(shown.age_ms < 60_000);
    });
});

test("a node that falls silent takes no machine and its machines are unreachable, until it is heard again", async () => {
  let nowMs = 0;
  await using region = await startRegion({ monotonicMs: () => nowMs });
  await region.createApp("web");
  const { id } = (await create(region)).json;
  const status = async () => (await region.call("GET", `/v1/apps/web/machines/${id}`)).json.host_status;
  assert.equal(await status(), "ok");
  nowMs += 15_001;
  const refused = await create(region);
  assert.deepEqual([refused.status, refused.json.details.passed_over], [503, { not_heard: 1 }]);
  assert.match(refused.json.error, /node1 was last heard 15 s ago/);
  assert.equal(await status(), "unreachable");
  await region.worker.publishNode();
  const again = async (): Promise<number> => (await create(region)).status;
  for (const limit = Date.now() + 5_000; (await again()) !== 200; )
    assert.ok(Date.now() < limit, "not heard");
  assert.equal(await status(), "ok");
});

test("a process that has just begun waits for the first word of a node before it refuses", async () => {
  await using region = await startRegion();
  await region.createApp("web");
  const other = await region.addApi("other");
  const send = (path: string, body?: unknown) =>
    fetch(`${other.url}${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: { authorization: `Bearer ${testToken}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const [before] = (await (await send("/v1/nodes")).json()) as {
    age_ms: number | null;
    schedulable: boolean;
  }[];
  assert.deepEqual([before?.age_ms, before?.schedulable], [null, false], "it had piled up");
  const created = send("/v1/apps/web/machines", { config: { image: "app:1" }, skip_launch: true });
  await region.worker.publishNode();
  assert.equal((await created).status, 200);
});
