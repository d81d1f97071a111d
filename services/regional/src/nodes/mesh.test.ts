/** The routes of the mesh, with hosts that say what a test wants them to say. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Serving } from "@hearth/cluster";
import {
  factKeys,
  hearthVersion,
  type MeshNodeStatus,
  type MeshPeerStatus,
  meshNodeWithout,
  type NodeKeyFact,
} from "@hearth/machine";
import { startRegion, type TestRegion, until } from "../testing/fixture.ts";

let region: TestRegion;
const servings: Serving[] = [];
const said = new Map<string, unknown>();

before(async () => {
  region = await startRegion();
});
after(async () => {
  for (const serving of servings) await serving.stop();
  await region[Symbol.asyncDispose]();
});

const peer: MeshPeerStatus = {
  ...{ node_id: "n2", state: "connected", endpoint: "192.0.2.2:51820", prefix: "fd00:1234:5678:2::/64" },
  ...{ public_key: "k", epoch: 1, mtu: 1440, latest_handshake_age_ms: 1200, heard_age_ms: 900 },
  ...{ rx_bytes: 10, tx_bytes: 20 },
};
const up = (node_id: string, epochs: number[], more: Partial<MeshNodeStatus> = {}): MeshNodeStatus => ({
  ...meshNodeWithout(node_id, "up", null),
  ...{ epoch: epochs[0] ?? null, epochs, peers: [peer] },
  ...more,
});

async function addHost(nodeId: string, hostNumber: number): Promise<void> {
  const fact: NodeKeyFact = {
    ...{ node_id: nodeId, host_number: hostNumber, roles: ["worker"], node_key: "U" },
    ...{ address: `192.0.2.${hostNumber}`, version: hearthVersion, joined_at_ms: 1 },
  };
  await region.facts.publish(factKeys.nodeKey(nodeId), fact);
  await until(() => region.replica.get(factKeys.nodeKey(nodeId)) !== undefined, nodeId);
  if (said.has(nodeId))
    servings.push(region.bus.serve(nodeId, "host-agent", { "mesh-status": () => said.get(nodeId) }));
  await region.bus.flush();
}

test("a region whose hosts nobody reaches has no mesh and rotates nothing", async () => {
  said.set("n1", meshNodeWithout("n1", "off", "no address"));
  await addHost("n1", 1);
  const { json } = await region.call("GET", "/v1/mesh");
  assert.deepEqual([json.state, json.epoch, json.nodes[0].state], ["none", 1, "off"]);
  const refused = await region.call("POST", "/v1/mesh/rotate");
  assert.deepEqual([refused.status, refused.json.code], [409, "conflict"]);
});

test("each host is asked for what it sees, and one that does not answer or talks nonsense is said to be unreachable", async () => {
  said.set("n1", up("n1", [1])).set("n2", { state: "up" });
  await addHost("n2", 2);
  await addHost("n3", 3);
  const { status, json } = await region.call("GET", "/v1/mesh");
  assert.equal(status, 200);
  assert.deepEqual(
    json.nodes.map((node: MeshNodeStatus) => [node.node_id, node.state]),
    [
      ["n1", "up"],
      ["n2", "unreachable"],
      ["n3", "unreachable"],
    ],
  );
  assert.deepEqual(json.nodes[0].peers, [peer]);
});

test("a rotation is the next epoch, wanted once, and refused until all hosts that answer have only its keys", async () => {
  said.set("n1", up("n1", [1])).set("n2", up("n2", [1]));
  const wanted = await region.call("POST", "/v1/mesh/rotate");
  assert.deepEqual([wanted.status, wanted.json.epoch, wanted.json.state], [200, 2, "rotating"]);
  said.set("n1", up("n1", [1, 2], { waits_for: ["n2"] }));
  const early = await region.call("POST", "/v1/mesh/rotate");
  assert.equal(early.status, 409);
  assert.match(early.json.message, /waits for n2/);
  said.set("n1", up("n1", [2])).set("n2", up("n2", [2]));
  assert.equal((await region.call("GET", "/v1/mesh")).json.state, "steady");
  const both = await Promise.all([1, 2].map(() => region.call("POST", "/v1/mesh/rotate")));
  assert.deepEqual(both.map(({ status }) => status).sort(), [200, 409], "of two wishes at once one counts");
  assert.equal((await region.call("GET", "/v1/mesh")).json.epoch, 3);
});
