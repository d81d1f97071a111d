/** The firewall against real packets, with 1,000 machines present. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { linkElement } from "./firewall-plan.ts";
import { dressGuest, type Guest, ip, PacketHost } from "./testing/packet-host.ts";
import type { Talker } from "./testing/talker.ts";

const root = process.getuid?.() === 0;
const options = { skip: root ? false : "needs root for network namespaces" };
const hostAddress = "fd12:3456:789a:1::1";
const remote = { same: "fd12:3456:789a:2:0:7:0:2", other: "fd12:3456:789a:2:0:8:0:2" };
const remoteHost = "fd12:3456:789a:2::1";
/** Nobody's: of the network of hosts, and like that of a host in another cluster. */
const noHosts = ["fd12:3456:789a:2::2", "fd12:3456:789a:2:0:0:1:1", "fd99::1"];

/** a and b are of network 7, c is of network 8; the peer is another host behind the mesh. */
let host: PacketHost;
let [a, b, c] = [] as unknown as [Guest, Guest, Guest];
let [onHost, world, peer] = [] as unknown as [Talker, Talker, Talker];

before(async () => {
  if (!root) return;
  host = new PacketHost();
  await host.applyNode({ meshInterfaces: ["mesh0"] });
  await host.crowd(1_000);
  const inHost = (line: string) => ip("-n", host.name, ...line.split(" "));
  const [worldSpace, peerSpace] = [host.space("world"), host.space("peer")];
  const link = (name: string, space: string) => {
    inHost(`link add ${name} type veth peer name eth0 netns ${space}`);
    inHost(`link set ${name} up`);
    ip("-n", space, "link", "set", "eth0", "up");
  };
  // The world has a public address, a private one, and one of link-local metadata; it knows no way to a guest.
  link("up0", worldSpace);
  inHost("addr add 198.51.100.1/24 dev up0");
  for (const address of ["198.51.100.2/24", "10.9.9.9/32", "169.254.169.254/32"])
    ip("-n", worldSpace, "addr", "add", address, "dev", "eth0");
  inHost("route add default via 198.51.100.2");
  link("mesh0", peerSpace);
  inHost("addr add fe80::a/64 dev mesh0 nodad");
  inHost("route add fd12:3456:789a:2::/64 via fe80::b dev mesh0");
  for (const address of [remote.same, remote.other, remoteHost, ...noHosts])
    ip("-n", peerSpace, "addr", "add", `${address}/128`, "dev", "eth0", "nodad");
  ip("-n", peerSpace, "addr", "add", "fe80::b/64", "dev", "eth0", "nodad");
  ip("-n", peerSpace, "route", "add", "default", "via", "fe80::a", "dev", "eth0");
  inHost(`addr add ${hostAddress}/128 dev lo nodad`);
  a = await host.guest(2, 7);
  b = await host.guest(3, 7);
  c = await host.guest(4, 8);
  onHost = await host.talker(host.name);
  world = await host.talker(worldSpace);
  peer = await host.talker(peerSpace);
});
after(async () => host?.[Symbol.asyncDispose]());

test(
  "guests of one network reach each other, guests of two do not, in either direction",
  options,
  async () => {
    assert.ok(await a.talker.reaches(b.v6));
    assert.ok(await b.talker.reaches(a.v6));
    const cut = [
      a.talker.reaches(c.v6),
      c.talker.reaches(a.v6),
      a.talker.reaches(b.v4), // nor by the addresses of egress
      b.talker.reaches(a.v4),
    ];
    assert.deepEqual(await Promise.all(cut), [false, false, false, false]);
  },
);

test("linking two networks lets their guests talk, unlinking ends it", options, async () => {
  const links = [linkElement(7, 8), linkElement(8, 7)];
  await host.executor.addElements(host.node, links);
  assert.ok(await a.talker.reaches(c.v6));
  assert.ok(await c.talker.reaches(a.v6));
  await host.executor.removeElements(host.node, links);
  assert.ok(!(await a.talker.reaches(c.v6)));
  assert.ok(!(await c.talker.reaches(a.v6)));
});

test("pairing networks says of all of them which may talk", options, async () => {
  const { executor, node } = host;
  await executor.pairNetworks(node, [
    [9, 10],
    [7, 8],
  ]);
  assert.deepEqual(await Promise.all([a.talker.reaches(c.v6), c.talker.reaches(a.v6)]), [true, true]);
  await executor.pairNetworks(node, [[9, 10]]);
  assert.deepEqual(await Promise.all([a.talker.reaches(c.v6), c.talker.reaches(a.v6)]), [false, false]);
  await executor.pairNetworks(node, []);
});

test("a link of one direction lets packets through in that one only", options, async () => {
  await host.executor.addElements(host.node, [linkElement(7, 8)]);
  await a.talker.send(c.v6, "there");
  await c.talker.send(a.v6, "back");
  await b.talker.send(a.v6, "after back");
  assert.ok(await c.talker.heardBefore("there", "there"));
  assert.ok(!(await a.talker.heardBefore("back", "after back")));
  await host.executor.removeElements(host.node, [linkElement(7, 8)]);
});

test("a guest sends only from its own IPv6 address, whatever the host's routes say", options, async () => {
  const unused = b.v6.replace(/:[^:]*$/, ":99");
  const inherited = c.v6;
  ip("-n", host.name, "route", "add", `${unused}/128`, "dev", a.plan.slot);
  const sources = [unused, b.v6, inherited, remote.same, hostAddress, remoteHost];
  for (const [index, source] of sources.entries()) {
    ip("-n", a.name, "addr", "add", `${source}/128`, "dev", "eth0", "nodad");
    // To c, whose network the third source is of; and to b.
    for (const to of [b, c]) await a.talker.send(to.v6, `spoofed ${index} to ${to.name}`, source);
    ip("-n", a.name, "addr", "del", `${source}/128`, "dev", "eth0");
  }
  await a.talker.send(b.v6, "honest");
  assert.ok(await b.talker.heardBefore("honest", "honest"));
  assert.equal(b.talker.sourceOf("honest"), a.v6);
  await onHost.send(c.v6, "from the host");
  for (const index of sources.keys()) {
    assert.ok(!(await b.talker.heardBefore(`spoofed ${index} to ${b.name}`, "honest")));
    assert.ok(!(await c.talker.heardBefore(`spoofed ${index} to ${c.name}`, "from the host")));
  }
  ip("-n", host.name, "route", "del", `${unused}/128`, "dev", a.plan.slot);
});

test("a guest sends only from its own IPv4 address, to the world and to the host", options, async () => {
  // So that the host would take the last of them for one behind this guest.
  ip("-n", host.name, "route", "add", "10.0.0.7/32", "dev", a.plan.slot);
  for (const [index, source] of [b.v4, "198.51.100.77", "10.0.0.7"].entries()) {
    ip("-n", a.name, "addr", "add", `${source}/32`, "dev", "eth0");
    await a.talker.send("198.51.100.2", `spoofed v4 ${index}`, source);
    ip("-n", a.name, "addr", "del", `${source}/32`, "dev", "eth0");
  }
  await a.talker.send("198.51.100.2", "honest v4");
  for (const index of [0, 1, 2])
    assert.ok(!(await world.heardBefore(`spoofed v4 ${index}`, "honest v4")), `source ${index}`);
  assert.equal(world.sourceOf("honest v4"), "::ffff:198.51.100.1");
});

test("nothing that a guest says of its neighbours changes what the host knows", options, async () => {
  const { slot } = a.plan;
  const known = () => [host.neighbours(slot), host.neighbours(b.plan.slot)];
  const before = known();
  const uplink = () => host.neighbours("up0").map((line) => line.split(" ")[0]);
  const uplinkBefore = uplink();
  assert.equal(before[0]?.length, 3);
  assert.ok(before.flat().every((line) => line.endsWith("PERMANENT")));
  const inA = (...words: string[]) => ip("-n", a.name, ...words);
  const announce = (name: string) => ip("netns", "exec", a.name, "sysctl", "-q", "-w", `net.${name}=1`);
  announce("ipv6.conf.eth0.ndisc_notify");
  announce("ipv4.conf.eth0.arp_notify");
  // It takes the addresses of its neighbour, of the host and of many others, and says so by ARP and NDP.
  const v6 = [b.v6, "fe80::1", hostAddress, ...Array.from({ length: 20 }, (_, i) => `fe80::5:${i + 1}`)];
  const v4 = [b.v4, a.plan.guest.gatewayV4, ...Array.from({ length: 20 }, (_, i) => `198.51.100.${i + 100}`)];
  for (const address of v4) inA("addr", "add", `${address}/32`, "dev", "eth0");
  inA("link", "set", "eth0", "down");
  inA("link", "set", "eth0", "address", "02:ba:d0:ba:d0:01");
  inA("link", "set", "eth0", "up");
  for (const address of v6) inA("addr", "add", `${address}/128`, "dev", "eth0", "nodad");
  // And asks for the gateway in the name of each.
  inA("route", "add", "198.51.100.1/32", "dev", "eth0");
  for (const source of v6.slice(3)) {
    inA("neigh", "flush", "dev", "eth0");
    await a.talker.send("fe80::1%eth0", "flood", source);
  }
  inA("addr", "del", `${a.plan.guest.gatewayV4}/32`, "dev", "eth0");
  for (const source of v4.slice(2)) {
    inA("neigh", "flush", "dev", "eth0");
    await a.talker.send(a.plan.guest.gatewayV4, "flood", source);
  }
  assert.ok(await b.talker.reaches(world4), "its neighbour is where it was");
  assert.ok(await onHost.reaches(b.v6));
  inA("neigh", "flush", "dev", "eth0");
  await a.talker.send("198.51.100.1", "who are you", a.v4);
  await a.talker.reaches(b.v6);
  assert.doesNotMatch(
    inA("neigh", "show", "198.51.100.1"),
    /lladdr/,
    "the host's other addresses are not told",
  );
  assert.deepEqual(known(), before);
  assert.deepEqual(uplink(), uplinkBefore, "and the host's own are not touched");
  // As it was, for the tests after this one.
  inA("addr", "flush", "dev", "eth0");
  inA("link", "set", "eth0", "down");
  inA("link", "set", "eth0", "address", a.plan.guest.mac);
  inA("link", "set", "eth0", "up");
  dressGuest(a.name, a.plan.guest);
  assert.ok(await a.talker.reaches(b.v6));
});
const world4 = "198.51.100.2";

test(
  "the world is reached under the host's address; private ranges and metadata are not",
  options,
  async () => {
    assert.ok(await a.talker.reaches(world4));
    assert.ok(await onHost.reaches("10.9.9.9"), "the host itself reaches them");
    assert.ok(await onHost.reaches("169.254.169.254"));
    const cut = [a.talker.reaches("10.9.9.9"), a.talker.reaches("169.254.169.254")];
    assert.deepEqual(await Promise.all(cut), [false, false]);
  },
);

test("a guest reaches a service of the host only when it is listed", options, async () => {
  const mesh = { meshInterfaces: ["mesh0"] };
  assert.ok(!(await a.talker.reaches(hostAddress)));
  await host.applyNode({ ...mesh, hostServices: [{ address: hostAddress, protocol: "tcp", port: 7000 }] });
  assert.ok(await a.talker.reaches(hostAddress));
  await a.talker.send(hostAddress, "by udp");
  await host.applyNode({ ...mesh, hostServices: [{ address: hostAddress, protocol: "udp", port: 7000 }] });
  assert.ok(!(await a.talker.reaches(hostAddress)));
  await a.talker.send(hostAddress, "by udp, listed");
  assert.ok(!(await onHost.heardBefore("by udp", "by udp, listed")));
  await host.applyNode(mesh);
});

test(
  "no address of the host answers a guest, and the world begins nothing with a guest",
  options,
  async () => {
    assert.ok(!(await a.talker.reaches("198.51.100.1")));
    assert.ok(!(await a.talker.reaches(a.plan.guest.gatewayV4)));
    ip("-n", world_(), "route", "add", "100.64.0.0/10", "via", "198.51.100.1");
    assert.ok(await onHost.reaches(a.v4), "the host itself reaches the guest");
    assert.ok(!(await world.reaches(a.v4)));
  },
);
const world_ = (): string => host.name.replace(/host$/, "world");

test("over the mesh, guests of the same network talk and nobody else does", options, async () => {
  assert.ok(await a.talker.reaches(remote.same));
  assert.ok(await peer.reaches(a.v6, remote.same));
  const cut = [
    a.talker.reaches(remote.other),
    c.talker.reaches(remote.same),
    peer.reaches(a.v6, remote.other),
    peer.reaches(c.v6, remote.same),
  ];
  assert.deepEqual(await Promise.all(cut), [false, false, false, false]);
});

test("another host itself reaches guests of any network, and is answered", options, async () => {
  for (const guest of [a, b, c]) assert.ok(await peer.reaches(guest.v6, remoteHost), guest.name);
  for (const source of noHosts) await peer.send(a.v6, `from ${source}`, source);
  await peer.send(a.v6, "from the host itself", remoteHost);
  for (const source of noHosts)
    assert.ok(!(await a.talker.heardBefore(`from ${source}`, "from the host itself")), source);
});

test("a guest begins nothing with another host, whatever came from there before", options, async () => {
  assert.ok(await peer.reaches(a.v6, remoteHost));
  assert.deepEqual(await Promise.all([a.talker.reaches(remoteHost), c.talker.reaches(remoteHost)]), [
    false,
    false,
  ]);
  await peer.send(a.v6, "from the host", remoteHost);
  await a.talker.send(remoteHost, "unasked");
  await a.talker.send(remote.same, "among guests");
  assert.ok(!(await peer.heardBefore("unasked", "among guests")));
  assert.ok(await a.talker.heardBefore("from the host", "from the host"));
});

test("a connection over the mesh is told what the way takes, by its first packet", options, async () => {
  const peerSpace = host.name.replace(/host$/, "peer");
  const to = "fd12:3456:789a:2::/64";
  const route = (...mtu: string[]) =>
    ip("-n", host.name, "-6", "route", "replace", to, "via", "fe80::b", "dev", "mesh0", ...mtu);
  const rule = (size: string) =>
    `add rule inet seen in tcp flags syn tcp option maxseg size ${size} counter\n`;
  const table = `add table inet seen
add chain inet seen in { type filter hook input priority 0; }
${rule("1240")}${rule("> 1240")}`;
  execFileSync("ip", ["netns", "exec", peerSpace, "nft", "-f", "-"], { input: table });
  route("mtu", "lock", "1300");
  assert.ok(await a.talker.reaches(remote.same));
  route();
  const counted = ip("netns", "exec", peerSpace, "nft", "list", "table", "inet", "seen");
  const packets = [...counted.matchAll(/counter packets (\d+)/g)].map(([, count]) => count);
  assert.deepEqual(packets, ["1", "0"], counted);
  ip("netns", "exec", peerSpace, "nft", "delete", "table", "inet", "seen");
});

test(
  "the mesh brings nothing from this host's own addresses, and takes nothing to the world",
  options,
  async () => {
    const peerSpace = host.name.replace(/host$/, "peer");
    ip("-n", peerSpace, "addr", "add", `${b.v6}/128`, "dev", "eth0", "nodad");
    await peer.send(a.v6, "as b", b.v6);
    await peer.send(a.v6, "as itself", remote.same);
    assert.ok(!(await a.talker.heardBefore("as b", "as itself")));
    ip("-n", peerSpace, "addr", "add", "100.64.9.9/32", "dev", "eth0");
    ip("-n", peerSpace, "-4", "route", "add", "0.0.0.0/0", "via", "inet6", "fe80::a", "dev", "eth0");
    await peer.send(world4, "through", "100.64.9.9");
    await onHost.send(world4, "from the host itself");
    assert.ok(!(await world.heardBefore("through", "from the host itself")));
  },
);

test("without a mesh nothing of the cluster leaves by the host's other ways", options, async () => {
  await host.applyNode({ meshInterfaces: [] });
  await a.talker.send(remote.same, "in the open");
  await host.applyNode({ meshInterfaces: ["mesh0"] });
  await a.talker.send(remote.same, "over the mesh");
  assert.ok(!(await peer.heardBefore("in the open", "over the mesh")));
});

test("the rules are as many for a thousand machines as for none", options, () => {
  const table = ip("netns", "exec", host.name, "nft", "-s", "list", "table", "inet", `hearth_${host.node}`);
  const rules = table
    .split("\n")
    .filter((line) => /^\t\t\S/.test(line) && !/^\t\t(type|elements|typeof)/.test(line));
  assert.ok(rules.length < 100, `${rules.length}`);
  assert.match(table, /elements = \{/);
});
