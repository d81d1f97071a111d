import assert from "node:assert/strict";
import { BlockList } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { hostAddress, hostPrefix, parseClusterPrefix } from "./address-plan.ts";
import { type MeshFacts, type MeshPeer, meshLinkName, meshMtu, meshPrefix, planMesh } from "./mesh-plan.ts";
import { slotPrefix } from "./slot-plan.ts";

const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const key = (text: string): string => Buffer.from(text.padEnd(32, ".")).toString("base64");

const peer = (host: number, changes: Partial<MeshPeer> = {}): MeshPeer => ({
  ...{ node: `n${host}`, host, address: `192.0.2.${host % 256}`, mtu: 1440, uses: 1 },
  ends: [{ epoch: 1, publicKey: key(`${host}/1`), port: 51820 }],
  ...changes,
});
const facts = (changes: Partial<MeshFacts> = {}): MeshFacts => ({
  ...{ node: "n1", prefix, host: 1, underlay: { address: "192.0.2.1", mtu: 1500 }, peers: [peer(2)] },
  ends: [{ epoch: 1, publicKey: key("1/1"), port: 51820, keyPath: "/keys/1" }],
  isFresh: () => true,
  ...changes,
});
const secondEnd = { epoch: 2, publicKey: key("1/2"), port: 51821, keyPath: "/keys/2" };
const rotating = (host: number): MeshPeer =>
  peer(host, { ends: [...peer(host).ends, { epoch: 2, publicKey: key(`${host}/2`), port: 51821 }] });

test("a host has one link, with a peer and a route for each other host", () => {
  const name = meshLinkName("n1", 1);
  assert.deepEqual(planMesh(facts()), {
    node: "n1",
    address: "fd12:3456:789a:1::1",
    cluster: "fd12:3456:789a::/48",
    links: [
      {
        ...{ name, epoch: 1, mtu: 1440, port: 51820, publicKey: key("1/1"), keyPath: "/keys/1" },
        address: "fd12:3456:789a:1::1",
        peers: [
          {
            node: "n2",
            publicKey: key("2/1"),
            endpoint: "192.0.2.2:51820",
            allowedIp: "fd12:3456:789a:2::/64",
          },
        ],
      },
    ],
    routes: [{ to: "fd12:3456:789a:2::/64", dev: name, mtu: 1440, isNarrow: false }],
  });
});

test("the interface takes what fits in the underlay's packets, and a route no more than the peer's interface", () => {
  assert.equal(meshMtu({ address: "192.0.2.1", mtu: 1500 }), 1440);
  assert.equal(meshMtu({ address: "2001:db8::1", mtu: 1500 }), 1420);
  assert.equal(meshMtu({ address: "192.0.2.1", mtu: 9000 }), 8940);
  assert.equal(meshMtu({ address: "192.0.2.1", mtu: 1280 }), 1280, "IPv6 has no less");
  const plan = planMesh(facts({ peers: [peer(2, { mtu: 1340 }), peer(3, { mtu: 8940 })] }));
  assert.deepEqual(
    plan.routes.map(({ mtu, isNarrow }) => [mtu, isNarrow]),
    [
      [1328, true],
      [1440, false],
    ],
  );
  const [to6] = planMesh(facts({ peers: [peer(2, { address: "2001:db8::2" })] })).links[0]?.peers ?? [];
  assert.equal(to6?.endpoint, "[2001:db8::2]:51820");
});

test("with two keys both links have the peer, and its route is by the newest that works", () => {
  const both = { ends: [...facts().ends, secondEnd], peers: [rotating(2), peer(3)] };
  const [old = "", next = ""] = [1, 2].map((epoch) => meshLinkName("n1", epoch));
  const devices = (isFresh: MeshFacts["isFresh"]) =>
    planMesh(facts({ ...both, isFresh })).routes.map(({ dev }) => dev);
  assert.deepEqual(
    planMesh(facts(both)).links.map(({ peers }) => peers.map(({ node }) => node)),
    [["n2", "n3"], ["n2"]],
  );
  assert.deepEqual(
    devices((_peer, epoch) => epoch === 1),
    [old, old],
    "the new one has not answered",
  );
  assert.deepEqual(
    devices(() => true),
    [next, old],
    "n3 has no new key",
  );
  assert.deepEqual(
    devices(() => false),
    [next, old],
  );
});

test("a peer without a key in common has no route, and no host is its own peer", () => {
  const plan = planMesh(
    facts({ peers: [peer(2, { ends: [] }), peer(1, { node: "n9" }), peer(7, { node: "n1" })] }),
  );
  assert.deepEqual([plan.routes, plan.links[0]?.peers], [[], []]);
});

test("who says the key of another host is left out, and the other stays", () => {
  const thief = peer(3, { ends: [{ epoch: 1, publicKey: key("2/1"), port: 1 }] });
  assert.deepEqual(
    planMesh(facts({ peers: [thief, peer(2)] })).links[0]?.peers.map(({ node }) => node),
    ["n2"],
  );
});

test("no two peers of a link may send from one address, and each host's own address is its peer's alone", () => {
  const hosts = fc.uniqueArray(fc.integer({ min: 2, max: 65_535 }), { maxLength: 20 });
  fc.assert(
    fc.property(hosts, (numbers) => {
      const plan = planMesh(
        facts({ peers: numbers.map((number) => rotating(number)), ends: [...facts().ends, secondEnd] }),
      );
      for (const { peers } of plan.links) {
        assert.equal(new Set(peers.map(({ allowedIp }) => allowedIp)).size, numbers.length);
        for (const number of numbers) {
          const owners = peers.filter(({ allowedIp }) => isIn(allowedIp, hostAddress(prefix, number)));
          assert.deepEqual(
            owners.map(({ node }) => node),
            [`n${number}`],
          );
        }
      }
      assert.deepEqual(
        plan.routes.map(({ to }) => to).sort(),
        numbers.map((number) => hostPrefix(prefix, number)).sort(),
      );
    }),
  );
});

test("names of links are a node's own, fit the kernel, and are never those of taps", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.integer({ min: 1, max: 36 ** 4 - 1 }), (node, epoch) => {
      const name = meshLinkName(node, epoch);
      assert.ok(name.length <= 15 && /^[a-z0-9-]+$/.test(name), name);
      assert.ok(name.startsWith(meshPrefix(node)) && !name.startsWith(slotPrefix(node)));
    }),
  );
  assert.throws(() => meshLinkName("n1", 36 ** 4), { code: "invalid_argument" });
  assert.throws(() => meshLinkName("n1", 0), { code: "invalid_argument" });
});

function isIn(cidr: string, address: string): boolean {
  const list = new BlockList();
  list.addSubnet(cidr.split("/")[0] ?? "", Number(cidr.split("/")[1]), "ipv6");
  return list.check(address, "ipv6");
}
