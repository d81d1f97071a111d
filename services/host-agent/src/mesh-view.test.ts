import assert from "node:assert/strict";
import { test } from "node:test";
import type { MeshFact, NodeKeyFact } from "@hearth/machine";
import { peersOf } from "./mesh-view.ts";

const key = (host: number, changes: Partial<NodeKeyFact> = {}): NodeKeyFact => ({
  ...{ node_id: `n${host}`, host_number: host, roles: ["worker"], node_key: "U", version: "1" },
  ...{ address: `192.0.2.${host}`, joined_at_ms: 1 },
  ...changes,
});
const publicKey = Buffer.alloc(32, 7).toString("base64");
const fact = (host: number, changes: Partial<MeshFact> = {}) => ({
  key: `mesh.n${host}`,
  value: {
    ...{ node_id: `n${host}`, prefix: `fd00:0:0:${host}::/64`, address: `fd00:0:0:${host}::1` },
    ...{ underlay: `192.0.2.${host}`, mtu: 1440, uses: 1 },
    ends: [{ epoch: 1, public_key: publicKey, port: 51_820 }],
    ...changes,
  },
});

test("peers are the other hosts of the region, with what they say of their keys", () => {
  assert.deepEqual(peersOf("n1", [key(2), key(1)], [fact(1), fact(2)]), [
    {
      ...{ node: "n2", host: 2, address: "192.0.2.2", mtu: 1440, uses: 1 },
      ends: [{ epoch: 1, publicKey, port: 51_820 }],
    },
  ]);
});

test("who is not in the region is no peer, whatever it says, and a host that nobody reaches neither", () => {
  assert.deepEqual(peersOf("n1", [key(3, { address: "127.0.0.1" })], [fact(2), fact(3)]), []);
});

test("a host's number and address are what the region says, not what it says itself", () => {
  const lie = fact(2, { prefix: "fd00:0:0:9::/64", underlay: "203.0.113.9" });
  const [peer] = peersOf("n1", [key(2)], [lie]);
  assert.deepEqual([peer?.host, peer?.address], [2, "192.0.2.2"]);
});

test("who says that it is another is nobody, and the other is heard", () => {
  const [two] = peersOf("n1", [key(2), key(9)], [fact(2), fact(9, { node_id: "n2", mtu: 1300 })]);
  assert.deepEqual([two?.node, two?.mtu, two?.ends.length], ["n2", 1440, 1]);
});

test("what cannot be understood leaves a host without keys, and the others as they are", () => {
  const bad: { readonly key: string; readonly value: unknown }[] = [
    { key: "mesh.n2", value: null },
    { key: "mesh.n2", value: "text" },
    fact(2, { ends: [] }),
    fact(2, { ends: [{ epoch: 1, public_key: "--help", port: 1 }] }),
    fact(2, { ends: [{ epoch: 1, public_key: `${publicKey}\n`, port: 1 }] }),
    fact(2, { ends: [{ epoch: 0, public_key: publicKey, port: 1 }] }),
    fact(2, { mtu: 1 }),
  ];
  for (const one of bad) {
    const peers = peersOf("n1", [key(2), key(3)], [one, fact(3)]);
    assert.deepEqual(
      peers.map(({ node, ends }) => [node, ends.length]),
      [
        ["n2", 0],
        ["n3", 1],
      ],
      JSON.stringify(one),
    );
  }
});
