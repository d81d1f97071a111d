/** Two hosts with real WireGuard between them, each a network namespace. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { parseClusterPrefix } from "./address-plan.ts";
import { diffMesh } from "./mesh-diff.ts";
import { MeshExecutor, parseDump, parseRoutes } from "./mesh-executor.ts";
import { type MeshFacts, meshPrefix, type OwnEnd, planMesh } from "./mesh-plan.ts";

const root = process.getuid?.() === 0;
const options = { skip: root ? false : "needs root for network namespaces", timeout: 60_000 };
const run = randomBytes(3).toString("hex");
const spaces = ["a", "b"].map((name) => `hth-mesh-${run}-${name}`);
const [one = "", two = ""] = spaces;
const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const directory = mkdtempSync(join(tmpdir(), "hearth-mesh-"));
const processes: ChildProcess[] = [];
const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
const inside = (space: string, ...command: string[]): string => ip("netns", "exec", space, ...command);
const nowSeconds = (): number => Date.now() / 1000;

interface Host {
  readonly space: string;
  readonly executor: MeshExecutor;
  readonly node: string;
  readonly host: number;
  readonly address: string;
  readonly ends: OwnEnd[];
}
const hosts = spaces.map((space, index): Host => {
  const host = index + 1;
  const executor = new MeshExecutor({ namespace: space });
  return { space, executor, node: `${run}${host}`, host, address: `10.0.0.${host}`, ends: [] };
});
const [a, b] = hosts as [Host, Host];

function addEnd({ node, ends }: Host, epoch: number): void {
  const keyPath = join(directory, `${node}.${epoch}`);
  const key = execFileSync("wg", ["genkey"], { encoding: "utf8" });
  writeFileSync(keyPath, key, { mode: 0o600 });
  const publicKey = execFileSync("wg", ["pubkey"], { input: key, encoding: "utf8" }).trim();
  ends.push({ epoch, port: 51_820 + (epoch % 2), publicKey, keyPath });
}

async function plan(self: Host, other: Host, changes: Partial<MeshFacts> = {}) {
  const underlay = await self.executor.underlay(self.address);
  assert.ok(underlay !== undefined);
  return planMesh({
    ...{ node: self.node, prefix, host: self.host, underlay, ends: self.ends, isFresh: () => false },
    peers: [
      { node: other.node, host: other.host, address: other.address, mtu: 1340, uses: 1, ends: other.ends },
    ],
    ...changes,
  });
}

/** What a host agent does in a turn, until a look finds nothing to do. */
async function converge(self: Host, wanted: Awaited<ReturnType<typeof plan>>): Promise<void> {
  const kernel = await self.executor.hasKernelWireguard();
  const started = new Set<string>();
  const endMs = Date.now() + 10_000;
  for (;;) {
    const changes = diffMesh(wanted, await self.executor.observe(wanted), nowSeconds());
    const { missingLinks, strayLinks, wireguard, ip: lines } = changes;
    if (missingLinks.length + strayLinks.length + wireguard.length + lines.length === 0) return;
    assert.ok(Date.now() < endMs, JSON.stringify(changes));
    for (const name of missingLinks)
      if (kernel) await self.executor.makeKernelLink(name);
      else if (!started.has(name)) {
        started.add(name);
        processes.push(
          spawn("ip", ["netns", "exec", self.space, "wireguard-go", "-f", name], { stdio: "ignore" }),
        );
      }
    await self.executor.apply(changes);
    for (const name of strayLinks) await self.executor.removeLink(name);
    await delay(20);
  }
}

const echo = `require("dgram").createSocket("udp6").on("message", function (text, from) {
  this.send(text, from.port, from.address);
}).bind(7007, "::", () => console.log("up"))`;
/** Datagrams of the size that come back. */
function answered(from: string, to: string, bytes: number, source?: string): boolean {
  const script = `const s = require("dgram").createSocket("udp6");
    s.on("message", () => process.exit(0)); s.on("error", () => process.exit(1));
    s.bind(0, ${JSON.stringify(source ?? "::")});
    setInterval(() => s.send(Buffer.alloc(${bytes}), 7007, "${to}", () => undefined), 50);
    setTimeout(() => process.exit(2), 3000);`;
  try {
    inside(from, process.execPath, "-e", script);
    return true;
  } catch {
    return false;
  }
}

before(async () => {
  if (!root) return;
  for (const space of spaces) ip("netns", "add", space);
  ip("link", "add", "eth0", "netns", one, "type", "veth", "peer", "eth0", "netns", two);
  for (const { space, address } of hosts) {
    ip("-n", space, "addr", "add", `${address}/24`, "dev", "eth0");
    for (const name of ["lo", "eth0"]) ip("-n", space, "link", "set", "dev", name, "up");
  }
  for (const space of spaces) {
    const server = spawn("ip", ["netns", "exec", space, process.execPath, "-e", echo], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    processes.push(server);
    await once(server.stdout, "data");
  }
});
after(async () => {
  for (const child of processes) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const exit = once(child, "exit");
    child.kill();
    await exit;
  }
  if (root) for (const space of spaces) ip("netns", "del", space);
  rmSync(directory, { recursive: true, force: true });
});

test("a plan is applied once, and a second look finds nothing to do", options, async () => {
  for (const host of hosts) addEnd(host, 1);
  await converge(a, await plan(a, b));
  await converge(b, await plan(b, a));
  assert.ok(answered(one, "fd12:3456:789a:2::1", 100));
  const routes = inside(one, "ip", "-6", "route");
  assert.match(routes, /fd12:3456:789a:2::\/64 dev hwg\S+ src fd12:3456:789a:1::1 metric 1024 mtu lock 1328/);
  assert.match(routes, /unreachable fd12:3456:789a::\/48/);
});

test("what is changed on the host by hand is put right", options, async () => {
  const [name = ""] = (await plan(a, b)).links.map((link) => link.name);
  const stranger = execFileSync("wg", ["pubkey"], {
    input: randomBytes(32).toString("base64"),
    encoding: "utf8",
  });
  inside(one, "wg", "set", name, "peer", stranger.trim(), "allowed-ips", "::/0");
  inside(one, "ip", "-6", "route", "add", "fd12:3456:789a:9::/64", "dev", name);
  inside(one, "ip", "-6", "route", "change", "fd12:3456:789a:2::/64", "dev", name);
  inside(one, "ip", "link", "set", "dev", name, "mtu", "1400");
  await converge(a, await plan(a, b));
  const { links, routes } = await a.executor.observe(await plan(a, b));
  assert.deepEqual(
    links[0]?.peers.map(({ publicKey, allowedIps }) => [publicKey, allowedIps]),
    [[b.ends[0]?.publicKey, ["fd12:3456:789a:2::/64"]]],
  );
  assert.deepEqual(
    routes.map(({ to, mtu, isLocked }) => [to, mtu, isLocked]),
    [["fd12:3456:789a:2::/64", 1328, true]],
  );
  assert.equal(links[0]?.mtu, 1440);
  assert.ok(answered(one, "fd12:3456:789a:2::1", 100));
});

test("a peer is heard from its own addresses only", options, async () => {
  const [name = ""] = (await plan(a, b)).links.map((link) => link.name);
  const forged = ["fd12:3456:789a:3::77", "fd12:3456:789a:3::1"];
  for (const address of ["fd12:3456:789a:1::77", ...forged])
    inside(one, "ip", "addr", "add", `${address}/128`, "dev", name, "nodad");
  inside(two, "ip", "-6", "route", "add", "fd12:3456:789a:3::/64", "dev", "lo");
  assert.ok(answered(one, "fd12:3456:789a:2::1", 100, "fd12:3456:789a:1::77"));
  const before = Number(inside(two, "cat", "/proc/net/snmp6").match(/Udp6InDatagrams\s+(\d+)/)?.[1]);
  for (const source of forged) assert.ok(!answered(one, "fd12:3456:789a:2::1", 100, source), source);
  const afterwards = Number(inside(two, "cat", "/proc/net/snmp6").match(/Udp6InDatagrams\s+(\d+)/)?.[1]);
  assert.equal(afterwards, before, "nothing of it came through");
  inside(two, "ip", "-6", "route", "del", "fd12:3456:789a:3::/64", "dev", "lo");
});

test(
  "trying whether the kernel has WireGuard leaves nothing, also when it is broken off",
  options,
  async () => {
    const links = () =>
      inside(one, "ip", "-o", "link")
        .match(/^\d+: [^:@]+/gm)
        ?.map((line) => line.split(" ")[1]);
    const before = links();
    const answer = await a.executor.hasKernelWireguard();
    assert.equal(await a.executor.hasKernelWireguard(), answer);
    for (let at = 0; at < 10; at += 1) {
      const cut = new AbortController();
      const trying = a.executor.hasKernelWireguard(cut.signal);
      setTimeout(() => cut.abort(), at * 3);
      await trying.catch(() => undefined);
    }
    assert.deepEqual(links(), before);
  },
);

test("two keys are two links, and the one that goes takes nothing with it", options, async () => {
  for (const host of hosts) addEnd(host, 2);
  const isFresh = () => true;
  await converge(a, await plan(a, b, { isFresh }));
  await converge(b, await plan(b, a, { isFresh }));
  const lines = inside(one, "ip", "-6", "route", "show", "fd12:3456:789a:2::/64");
  assert.match(lines, new RegExp(`dev ${meshPrefix(a.node)}2 `), "the new one carries it");
  assert.ok(answered(one, "fd12:3456:789a:2::1", 1200));
  for (const host of hosts) host.ends.shift();
  await converge(a, await plan(a, b));
  await converge(b, await plan(b, a));
  assert.deepEqual(
    (await a.executor.observe(await plan(a, b))).links.map(({ name }) => name),
    [`${meshPrefix(a.node)}2`],
  );
  assert.ok(answered(one, "fd12:3456:789a:2::1", 1200));
});

test("what is there is taken away twice, and nothing stays", options, async () => {
  const { links, cluster } = await plan(a, b);
  for (let time = 0; time < 2; time += 1) {
    for (const { name } of links) await a.executor.removeLink(name);
    await a.executor.open(cluster);
  }
  assert.ok(!inside(one, "ip", "-o", "link").includes("hwg"));
  assert.ok(!inside(one, "ip", "-6", "route").includes("fd12"));
});

test("a dump is read, whatever is not set in it", () => {
  assert.deepEqual(parseDump("PRIVATE\tPUBLIC\t51820\toff\nKEY\t(none)\t(none)\t(none)\t0\t0\t0\toff\n"), {
    publicKey: "PUBLIC",
    port: 51_820,
    peers: [
      {
        ...{ publicKey: "KEY", endpoint: undefined, allowedIps: [], keepaliveSeconds: 0 },
        ...{ handshakeAtSeconds: 0, rxBytes: 0, txBytes: 0 },
      },
    ],
  });
  assert.equal(parseDump("(none)\t(none)\t0\toff\n").publicKey, undefined);
});

test("routes are read, with what the kernel made and what leads nowhere", () => {
  const text = `fd00:1::/64 dev d0 src fd00::1 metric 1024 mtu lock 1340 pref medium
fd00:2::/64 dev d0 metric 1024 linkdown mtu 1400 pref medium
fe80::/64 dev d0 proto kernel metric 256 pref medium
unreachable fd00::/48 dev lo metric 1024 pref medium
`;
  const plain = {
    type: "unicast",
    dev: "d0",
    source: undefined,
    mtu: undefined,
    isLocked: false,
    isOfKernel: false,
  };
  assert.deepEqual(parseRoutes(text), [
    { ...plain, to: "fd00:1::/64", source: "fd00::1", mtu: 1340, isLocked: true },
    { ...plain, to: "fd00:2::/64", mtu: 1400 },
    { ...plain, to: "fe80::/64", isOfKernel: true },
    { ...plain, to: "fd00::/48", type: "unreachable", dev: "lo" },
  ]);
  assert.deepEqual(parseRoutes(""), []);
});
