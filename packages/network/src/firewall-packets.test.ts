/**
 * The firewall against real packets. Guests are network namespaces; their taps are stood in for by veth pairs of
 * the same names, because the rules see names and packets and not kinds of interfaces.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { parseClusterPrefix } from "./address-plan.ts";
import { NetworkExecutor } from "./executor.ts";
import { linkElement, renderElementRemoval, renderElements } from "./firewall-plan.ts";
import { planSlot, type SlotPlan } from "./slot-plan.ts";

const root = process.getuid?.() === 0;
const options = { skip: root ? false : "needs root for network namespaces" };
const run = randomBytes(3).toString("hex");
const space = (name: string): string => `hth-test-${run}-${name}`;
const host = space("host");
const world = space("world");
const guests = ["a", "b", "c"].map(space);
const prefix = parseClusterPrefix("fd12:3456:789a::/48");

const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
const nft = (script: string): string =>
  execFileSync("ip", ["netns", "exec", host, "nft", "-f", "-"], { input: script, encoding: "utf8" });

/** a and b are of network 7, c is of network 8. */
const plans = [7, 7, 8].map((network, index) =>
  planSlot({
    node: "n1",
    machineId: `${index}`.padStart(14, "0"),
    address: { prefix, host: 1, network, machine: index + 2 },
    egressSlot: index + 1,
    ownerUid: 0,
  }),
);
const [a, b, c] = plans as [SlotPlan, SlotPlan, SlotPlan];
const v6 = (plan: SlotPlan): string => plan.guest.addressV6.split("/")[0] ?? "";
const v4 = (plan: SlotPlan): string => plan.guest.addressV4.split("/")[0] ?? "";

const port = 7000;
const servers: ChildProcess[] = [];

/** Listens on every address of a namespace until it is killed. */
async function listenIn(name: string): Promise<void> {
  const script = `require("net").createServer((s) => s.end()).listen(${port}, "::", () => console.log("up"))`;
  const server = spawn("ip", ["netns", "exec", name, process.execPath, "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  servers.push(server);
  await once(server.stdout, "data");
}

/** Whether a TCP connection comes about; a packet that is dropped shows as silence. */
function reaches(from: string, to: string, source?: string): boolean {
  const local = JSON.stringify({ host: to, port, ...(source === undefined ? {} : { localAddress: source }) });
  const script = `const s = require("net").connect(${local}, () => process.exit(0));
    s.on("error", () => process.exit(1)); setTimeout(() => process.exit(2), 700);`;
  return spawnSync("ip", ["netns", "exec", from, process.execPath, "-e", script]).status === 0;
}

function attachGuest(guest: string, plan: SlotPlan): void {
  const { name } = plan.tap;
  ip("-n", host, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", guest);
  ip("-n", host, "link", "set", name, "up");
  for (const address of plan.hostAddresses)
    ip("-n", host, "addr", "add", address, "dev", name, ...(address.includes(":") ? ["nodad"] : []));
  for (const route of plan.routes) ip("-n", host, "route", "add", route, "dev", name);
  ip("-n", guest, "link", "set", "lo", "up");
  ip("-n", guest, "link", "set", "eth0", "up");
  ip("-n", guest, "addr", "add", plan.guest.addressV6, "dev", "eth0", "nodad");
  ip("-n", guest, "addr", "add", plan.guest.addressV4, "dev", "eth0");
  ip("-n", guest, "route", "add", "default", "via", plan.guest.gatewayV6, "dev", "eth0");
  ip("-n", guest, "route", "add", "default", "via", plan.guest.gatewayV4);
  nft(renderElements("n1", plan.elements));
}

before(async () => {
  if (!root) return;
  for (const name of [host, world, ...guests]) ip("netns", "add", name);
  await new NetworkExecutor({ namespace: host }).applyNode({
    node: "n1",
    prefix,
    meshInterfaces: [],
    hostServices: [],
  });
  // The world has a public address, a private one, and one of link-local metadata; it knows no way to a guest.
  ip("-n", host, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", world);
  ip("-n", host, "link", "set", "up0", "up");
  ip("-n", host, "addr", "add", "198.51.100.1/24", "dev", "up0");
  ip("-n", world, "link", "set", "eth0", "up");
  for (const address of ["198.51.100.2/24", "10.9.9.9/32", "169.254.169.254/32"])
    ip("-n", world, "addr", "add", address, "dev", "eth0");
  ip("-n", host, "route", "add", "default", "via", "198.51.100.2");
  for (const [index, guest] of guests.entries()) attachGuest(guest, plans[index] as SlotPlan);
  await Promise.all([host, world, ...guests].map(listenIn));
});
after(async () => {
  for (const server of servers) {
    const exit = once(server, "exit");
    server.kill();
    await exit;
  }
  if (root) for (const name of [...guests, world, host]) spawnSync("ip", ["netns", "del", name]);
});

const [guestA = "", , guestC = ""] = guests;

test("guests of one network reach each other, guests of two do not", options, () => {
  assert.ok(reaches(guestA, v6(b)));
  assert.ok(!reaches(guestA, v6(c)));
  assert.ok(!reaches(guestC, v6(a)));
  assert.ok(!reaches(guestA, v4(b)), "nor by the addresses of egress");
});

test("linking two networks lets their guests talk, unlinking ends it", options, () => {
  const links = [linkElement(7, 8), linkElement(8, 7)];
  nft(renderElements("n1", links));
  assert.ok(reaches(guestA, v6(c)));
  nft(renderElementRemoval("n1", links));
  assert.ok(!reaches(guestA, v6(c)));
});

test("a guest sends only from its own addresses", options, () => {
  const stolen = v6(b).replace(/:[^:]*$/, ":99");
  ip("-n", guestA, "addr", "add", `${stolen}/128`, "dev", "eth0", "nodad");
  ip("-n", host, "route", "add", `${stolen}/128`, "dev", a.tap.name);
  assert.ok(reaches(guestA, v6(b), v6(a)));
  assert.ok(!reaches(guestA, v6(b), stolen));
  ip("-n", guestA, "addr", "del", `${stolen}/128`, "dev", "eth0");
});

test("the world is reached under the host's address; private ranges and metadata are not", options, () => {
  assert.ok(reaches(guestA, "198.51.100.2"));
  assert.ok(reaches(host, "10.9.9.9") && reaches(host, "169.254.169.254"), "the host itself reaches them");
  assert.ok(!reaches(guestA, "10.9.9.9"));
  assert.ok(!reaches(guestA, "169.254.169.254"));
});

test("a guest reaches a service of the host only when it is listed", options, async () => {
  const address = "fd12:3456:789a:1::1";
  const node = { node: "n1", prefix, meshInterfaces: [] };
  const executor = new NetworkExecutor({ namespace: host });
  ip("-n", host, "link", "set", "lo", "up");
  ip("-n", host, "addr", "add", `${address}/128`, "dev", "lo", "nodad");
  assert.ok(!reaches(guestA, address));
  await executor.applyNode({ ...node, hostServices: [{ address, protocol: "tcp", port }] });
  assert.ok(reaches(guestA, address));
  await executor.applyNode({ ...node, hostServices: [] });
  assert.ok(!reaches(guestA, address));
});

test("no address of the host answers a guest, and the world begins nothing with a guest", options, () => {
  assert.ok(!reaches(guestA, "198.51.100.1"));
  assert.ok(!reaches(guestA, a.guest.gatewayV4));
  ip("-n", world, "route", "add", "100.64.0.0/10", "via", "198.51.100.1");
  assert.ok(reaches(host, v4(a)), "the host itself reaches the guest");
  assert.ok(!reaches(world, v4(a)));
});

test(
  "over the mesh a guest reaches its own network only, and both ends are told what the way takes",
  options,
  async () => {
    const [far, stranger] = [7, 8].map((network) =>
      planSlot({
        node: "n2",
        machineId: `far${network}`.padEnd(14, "0"),
        address: { prefix, host: 2, network, machine: 2 },
        egressSlot: 9,
        ownerUid: 0,
      }),
    ) as [SlotPlan, SlotPlan];
    // Another host, as this one sees it: an interface of the mesh, and behind it guests of two networks.
    const other = space("other");
    ip("netns", "add", other);
    try {
      ip("-n", host, "link", "add", "mesh0", "type", "veth", "peer", "name", "eth0", "netns", other);
      ip("-n", host, "link", "set", "mesh0", "up");
      ip("-n", host, "addr", "add", "fe80::2/64", "dev", "mesh0", "nodad");
      for (const name of ["lo", "eth0"]) ip("-n", other, "link", "set", name, "up");
      ip("-n", other, "addr", "add", "fe80::3/64", "dev", "eth0", "nodad");
      for (const plan of [far, stranger])
        ip("-n", other, "addr", "add", `${v6(plan)}/128`, "dev", "eth0", "nodad");
      ip("-n", other, "route", "add", "default", "via", "fe80::2", "dev", "eth0");
      const toOther = ["fd12:3456:789a:2::/64", "via", "fe80::3", "dev", "mesh0", "mtu", "lock", "1300"];
      ip("-n", host, "-6", "route", "add", ...toOther);
      await listenIn(other);
      assert.ok(!reaches(guestA, v6(far)), "an interface that is not of the mesh brings nobody in");
      const node = { node: "n1", prefix, hostServices: [] };
      const executor = new NetworkExecutor({ namespace: host });
      await executor.applyNode({ ...node, meshInterfaces: ["mesh0"] });
      assert.ok(reaches(guestA, v6(far)));
      assert.ok(reaches(other, v6(a), v6(far)), "and the other way");
      assert.ok(!reaches(guestA, v6(stranger)));
      assert.ok(!reaches(other, v6(a), v6(stranger)));
      assert.ok(!reaches(other, v6(c), v6(far)));
      // What the first packet of a connection says of the sender's largest segment, when it arrives.
      const table = ["add table inet seen", "add chain inet seen in { type filter hook input priority 0; }"];
      const rules = ["1240", "> 1240"].map(
        (size) =>
          `add rule inet seen in tcp dport ${port} tcp flags syn tcp option maxseg size ${size} counter`,
      );
      execFileSync("ip", ["netns", "exec", other, "nft", "-f", "-"], {
        input: [...table, ...rules].join("\n"),
      });
      assert.ok(reaches(guestA, v6(far)));
      const counted = ip("netns", "exec", other, "nft", "list", "table", "inet", "seen");
      assert.deepEqual(
        [...counted.matchAll(/counter packets (\d+)/g)].map(([, packets]) => packets),
        ["1", "0"],
        counted,
      );
      await executor.applyNode({ ...node, meshInterfaces: [] });
      assert.ok(!reaches(other, v6(a), v6(far)));
    } finally {
      ip("netns", "del", other);
    }
  },
);
