/** Whether a host of the bus may be removed, and what is said of its server: the API, with facts as agents write them. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type BusFact, factKeys, type LeaseFact, type NodeKeyFact } from "@hearth/machine";
import { startRegion, type TestRegion, until } from "../testing/fixture.ts";

const all = ["n1", "n2", "n3"];
const key = (node_id: string, host_number: number): NodeKeyFact => ({
  ...{ node_id, host_number, roles: ["worker", "bus"], node_key: `U${node_id}`, seal_key: `X${node_id}` },
  bus: { client_url: `nats://${node_id}:4222`, route_url: `${node_id}:6222` },
  ...{ address: "127.0.0.1", version: "0", joined_at_ms: 0 },
});
const fact = (members: readonly string[]): BusFact => ({
  ...{ state: "formed", members, secrets: {}, sealed_by: "X" },
});

let region: TestRegion;

const write = async (name: string, value: unknown): Promise<void> => {
  const revision = await region.facts.publish(name, value);
  await region.replica.waitForRevision(name, revision, { timeoutMs: 5_000 });
};
const remove = (node: string) => region.call("DELETE", `/v1/nodes/${node}`);
const refusal = async (node: string): Promise<string> => {
  const { status, json } = await remove(node);
  assert.deepEqual([status, json.code], [409, "conflict"]);
  assert.equal(region.replica.get(factKeys.nodePolicy(node)), undefined, "nothing was written");
  return json.message;
};

describe("the removal of a host of the bus", () => {
  before(async () => {
    region = await startRegion();
    for (const [index, id] of all.entries()) {
      await region.addNode(id);
      await write(factKeys.nodeKey(id), key(id, index + 1));
    }
  });
  after(() => region[Symbol.asyncDispose]());

  test("is refused for the only server of the bus", async () => {
    assert.match(await refusal("n1"), /has the only server of the bus/);
  });

  test("is refused for one of the last two", async () => {
    await write(factKeys.bus(), fact(["n1", "n2"]));
    assert.match(await refusal("n2"), /one of the last two servers/);
  });

  test("is refused while another that stays is unreachable, whom it names", async () => {
    await write(factKeys.bus(), fact(all));
    await write(factKeys.lease("n2"), { node_id: "n2", state: "fenced", term: 1, ttl_ms: 1_000 });
    assert.match(await refusal("n3"), /n2 is unreachable/);
    await write(factKeys.lease("n2"), { node_id: "n2", state: "held", term: 1, ttl_ms: 1_000 });
  });

  test("ends when the others go on without it, and may be repeated", async () => {
    const removal = remove("n3");
    await until(() => region.replica.get(factKeys.nodeKey("n3")) === undefined, "it has no credentials");
    let isOver = false;
    void removal.then(() => {
      isOver = true;
    });
    await write(factKeys.bus(), fact(["n1", "n2", "n3"]));
    assert.equal(isOver, false, "its server still takes part");
    await write(factKeys.bus(), fact(["n1", "n2"]));
    assert.deepEqual((await removal).json, { ok: true, forgotten: [], bus: "left" });
    assert.deepEqual((await remove("n3")).json, { ok: true, forgotten: [] });
  });

  test("goes on where an API died between two steps", async () => {
    await write(factKeys.nodeKey("n4"), key("n4", 4));
    await write(factKeys.bus(), fact(["n1", "n2", "n4"]));
    const removed = { at_ms: 1, host_number: 4 };
    const policy = { node_id: "n4", cordoned: true, draining: false, changed_at_ms: 1, removed };
    await write(factKeys.nodePolicy("n4"), policy);
    const removal = remove("n4");
    await until(() => region.replica.get(factKeys.nodeKey("n4")) === undefined, "it has no credentials");
    const lease = region.replica.get(factKeys.lease("n4"))?.value as LeaseFact | undefined;
    assert.equal(lease?.state, "removed");
    await write(factKeys.bus(), fact(["n1", "n2"]));
    assert.equal((await removal).json.bus, "left");
  });

  test("takes the credentials of a host that joined and was lost before it said anything", async () => {
    await write(factKeys.nodeKey("n5"), key("n5", 5));
    assert.deepEqual((await remove("n5")).json, { ok: true, forgotten: [] });
    assert.equal(region.replica.get(factKeys.nodeKey("n5")), undefined);
    assert.equal((await remove("n6")).status, 404);
  });
});
