/** Three hosts with real WireGuard between them, and what can befall it. */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { type FleetHost, type Json, type RunningFleet, startFleet, until } from "@hearth/testkit";
import { answerOn, answers, overflows, talk, transfer } from "./mesh-traffic.ts";

const mib = 1024 ** 2;
const root = process.getuid?.() === 0 ? false : "a fleet needs root";

let fleet: RunningFleet;
let one: FleetHost;
let two: FleetHost;
let three: FleetHost;

async function mesh(): Promise<Json> {
  const { status, body } = await fleet.region.call(one, "GET", "/v1/mesh");
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

const nodeOf = (status: Json, host: FleetHost): Json =>
  status.nodes.find(({ node_id }: Json) => node_id === fleet.region.nodeId(host));
const peerOf = (status: Json, host: FleetHost, peer: FleetHost): Json =>
  nodeOf(status, host).peers.find(({ node_id }: Json) => node_id === fleet.region.nodeId(peer));

const allConnected = (status: Json): boolean =>
  status.state === "steady" &&
  status.nodes.every(
    ({ state, peers }: Json) =>
      state === "up" &&
      peers.length === fleet.hosts.length - 1 &&
      peers.every((peer: Json) => peer.state === "connected"),
  );
const connected = (limitMs = 40_000): Promise<Json> =>
  until("every host hears every other", limitMs, async () => {
    const status = await mesh();
    return allConnected(status) ? status : undefined;
  });

/** Of the mesh. */
const addresses = new Map<FleetHost, string>();
const at = (host: FleetHost): string => addresses.get(host) ?? "";
const wireguard = (host: FleetHost) =>
  host.processes().filter(({ args }) => args[0]?.endsWith("wireguard-go") === true);
const hearth = async (host: FleetHost, ...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await host.hearth(args);
  assert.equal(code, 0, stderr);
  return stdout;
};
const sh = async (host: FleetHost, script: string): Promise<string> =>
  (await host.run(["bash", "-c", script])).stdout;

describe("the mesh of a fleet", { skip: root, timeout: 600_000 }, () => {
  before(async () => {
    fleet = await startFleet({ hosts: 3, apis: 2, buses: 1 });
    [one, two, three] = [fleet.host(1), fleet.host(2), fleet.host(3)];
    const status = await connected();
    for (const host of fleet.hosts) addresses.set(host, nodeOf(status, host).address);
    await Promise.all(fleet.hosts.map(answerOn));
  });
  afterEach(async () => await fleet.heal());
  after(async () => await fleet?.[Symbol.asyncDispose]());

  test("every host reaches every other by its address in the mesh, in small packets and in bulk", async (t) => {
    for (const from of fleet.hosts)
      for (const to of fleet.hosts)
        if (from !== to) assert.ok(await answers(from, at(to)), `${from.name} to ${to.name}`);
    const { bytes, ms } = await transfer(one, at(two), 64 * mib);
    assert.equal(bytes, 64 * mib);
    t.diagnostic(`one connection: ${Math.round((bytes * 8) / ms / 1000)} Mbit/s`);
    assert.ok(await answers(one, at(three), 4_000), "a datagram that has to be fragmented");
    const text = await hearth(one, "mesh", "status");
    assert.match(
      text,
      new RegExp(`${fleet.region.nodeId(one)} .*${two.address}:51820 +connected +\\d+s ago`),
    );
  });

  test("a key is in one file that root alone may read, and in no fact and no list of processes", async () => {
    for (const host of fleet.hosts) {
      const directory = join(host.files.dataDir, "credentials/mesh");
      const files = (await sh(host, `ls ${directory}`)).trim().split("\n");
      assert.equal(files.length, 1);
      const path = join(directory, files[0] ?? "");
      assert.equal((statSync(path).mode & 0o777).toString(8), "600");
      const key = (await sh(host, `cat ${path}`)).trim();
      assert.equal(key.length, 44);
      assert.ok(!JSON.stringify(await mesh()).includes(key));
      assert.ok(!host.processes().some(({ args }) => args.join(" ").includes(key)));
      const logs = await sh(host, `grep -rlF '${key}' ${host.files.dataDir} ${host.files.runDir} || true`);
      assert.deepEqual(logs.trim().split("\n"), [path]);
    }
  });

  test("keys are rotated under traffic: nothing is lost, and no old key is left", async (t) => {
    const before = await connected();
    const overflowedBefore = await overflows(fleet.hosts);
    const talkers = await Promise.all(
      [
        [one, two],
        [two, three],
        [three, one],
      ].map(([from, to]) => talk(from as FleetHost, at(to as FleetHost))),
    );
    // Slow enough to fill no queue: a link that is full loses datagrams without any rotation.
    const stream = transfer(two, at(one), 2 * mib, { pauseMs: 16 });
    const begunMs = performance.now();
    const rotated = JSON.parse(await hearth(one, "mesh", "rotate", "--json"));
    t.diagnostic(`a rotation takes ${Math.round(performance.now() - begunMs)} ms`);
    assert.deepEqual([rotated.state, rotated.epoch], ["steady", before.epoch + 1]);
    assert.equal((await stream).bytes, 2 * mib, "one TCP connection went on through it");
    const losses = await Promise.all(talkers.map((talker) => talker.end()));
    t.diagnostic(JSON.stringify(losses));
    assert.ok(losses.every(({ sent }) => sent > 100));
    const lost = losses.reduce((sum, loss) => sum + loss.lost, 0);
    const overflowed = (await overflows(fleet.hosts)) - overflowedBefore;
    assert.ok(lost <= overflowed, `${lost} lost, and ${overflowed} for want of room`);
    const status = await connected();
    const keys = (mesh: Json): string[] =>
      mesh.nodes.flatMap(({ peers }: Json) => peers.map(({ public_key }: Json) => public_key));
    assert.equal(new Set([...keys(before), ...keys(status)]).size, 6, "all keys are new");
    for (const host of fleet.hosts) {
      const files = await sh(
        host,
        "ls $HEARTH_DATA_DIR/credentials/mesh; ip -o link | grep -c hwg; wg show interfaces",
      );
      assert.match(files, /^2\.51821\.key\n1\nhwg\w+-2\n$/);
      assert.equal(wireguard(host).length, 1);
    }
  });

  test("a peer that is cut off is noticed by both, by nobody else, and is back soon after", async (t) => {
    await connected();
    const begunMs = performance.now();
    await fleet.partition([two], [three]);
    const status = await until("the two miss each other", 60_000, async () => {
      const now = await mesh();
      const silent = [peerOf(now, two, three), peerOf(now, three, two)].every(
        ({ state }) => state === "silent",
      );
      return silent ? now : undefined;
    });
    t.diagnostic(`noticed after ${Math.round(performance.now() - begunMs)} ms`);
    assert.ok(peerOf(status, two, three).latest_handshake_age_ms > 10_000);
    for (const host of [two, three]) {
      assert.equal(peerOf(status, one, host).state, "connected");
      assert.equal(peerOf(status, host, one).state, "connected");
    }
    const warned = await until("the node says so too", 20_000, async () => {
      const { body } = await fleet.region.call(one, "GET", `/v1/nodes/${fleet.region.nodeId(two)}`);
      const text = body.warnings.find((line: string) => line.includes("over the mesh"));
      return text as string | undefined;
    });
    assert.match(warned, new RegExp(fleet.region.nodeId(three)));
    const healedMs = performance.now();
    await fleet.heal();
    assert.ok(await answers(two, at(three), 64, 30_000));
    t.diagnostic(`packets went again after ${Math.round(performance.now() - healedMs)} ms`);
    await connected();
  });

  test("a WireGuard process that dies is started again, also after another agent has taken it over", async (t) => {
    const killed = async (): Promise<number> => {
      const [{ pid = 0 } = {}] = wireguard(two);
      const begunMs = performance.now();
      process.kill(pid, "SIGKILL");
      await until("another process", 20_000, async () => wireguard(two).find((now) => now.pid !== pid));
      for (const [from, to] of [
        [one, two],
        [two, three],
      ] as const)
        assert.ok(await answers(from, at(to), 64, 20_000), `${from.name} to ${to.name}`);
      return performance.now() - begunMs;
    };
    t.diagnostic(`killed: packets went again after ${Math.round(await killed())} ms`);
    await connected();

    const [{ pid = 0 } = {}] = wireguard(two);
    const talker = await talk(one, at(two));
    await two.kill("host-agent");
    await fleet.region.start(two);
    await fleet.region.settled();
    await connected();
    const loss = await talker.end();
    t.diagnostic(`agent killed and started: ${JSON.stringify(loss)}`);
    assert.equal(loss.lost, 0, "the mesh needs no agent, and a new one leaves it as it is");
    assert.deepEqual(
      wireguard(two).map((now) => now.pid),
      [pid],
    );
    t.diagnostic(`killed again: packets went again after ${Math.round(await killed())} ms`);
    await connected();
  });

  test("a host whose underlay takes less is sent less, where bigger packets vanish without a word", async () => {
    const big = 1_380;
    assert.ok(await answers(one, at(two), big));
    await sh(two, "ip link set dev eth0 mtu 1400");
    // A virtual cable takes four bytes more than its end says.
    await fleet.narrow(one, two, 1_400);
    const status = await until("the others know", 30_000, async () => {
      const now = await mesh();
      return peerOf(now, one, two).mtu === 1_340 ? now : undefined;
    });
    assert.equal(nodeOf(status, two).mtu, 1_340);
    await until("the route says so", 10_000, async () =>
      (await sh(one, "ip -6 route")).includes(" mtu lock 1328") ? true : undefined,
    );
    const raw = `const s = require("node:dgram").createSocket("udp4");
      s.send(Buffer.alloc(1450), 9, "${two.address}", () => s.close());`;
    const received = async (): Promise<number> =>
      Number(await sh(two, "cat /sys/class/net/eth0/statistics/rx_packets"));
    const beforeRaw = await received();
    await one.run([process.execPath, "-e", raw]);
    assert.ok((await received()) - beforeRaw < 20, "only what else there is");
    assert.equal((await transfer(one, at(two), 16 * mib, { limitMs: 30_000 })).bytes, 16 * mib);
    assert.equal((await transfer(two, at(one), 16 * mib, { limitMs: 30_000 })).bytes, 16 * mib);
    assert.ok(await answers(one, at(two), big), "what is bigger is cut in pieces that fit");
    await sh(two, "ip link set dev eth0 mtu 1500");
    await until("the others know", 30_000, async () =>
      peerOf(await mesh(), one, two).mtu === 1_440 ? true : undefined,
    );
  });

  test("bulk comes over a way that takes less than any interface says, where bigger packets vanish", async () => {
    assert.ok(await answers(one, at(two), 1_300));
    await fleet.narrow(one, two, 1_300);
    assert.ok(!(await answers(one, at(two), 1_300, 2_000)), "what is big vanishes");
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const)
      assert.equal((await transfer(from, at(to), mib)).bytes, mib);
    assert.ok((await fleet.dropped()) > 0);
  });

  test("a host that goes down leaves nothing of the mesh, and comes back into it", async () => {
    await connected();
    const { cluster } = { cluster: `${at(three).split(":").slice(0, 3).join(":")}::/48` };
    assert.match(await sh(three, "ip -6 route"), new RegExp(`unreachable ${cluster}`));
    await hearth(three, "down");
    assert.deepEqual(wireguard(three), []);
    const left = await sh(three, "ip -o link; ip -6 route; nft list ruleset; ls /run/wireguard");
    assert.ok(!left.includes("hwg") && !left.includes("unreachable") && !left.includes("hearth_"), left);
    const status = await until("the others miss it", 60_000, async () => {
      const now = await mesh();
      return peerOf(now, one, three).state === "silent" ? now : undefined;
    });
    assert.equal(nodeOf(status, three).state, "unreachable");
    const rotated = JSON.parse(await hearth(one, "mesh", "rotate", "--no-wait", "--json"));
    await fleet.region.start(three);
    const steady = await connected(60_000);
    assert.equal(
      steady.epoch,
      rotated.epoch,
      "it came back in the middle of a rotation, and has the new keys",
    );
    assert.ok(await answers(one, at(three), 64, 10_000));
  });

  test("a node that is taken out of the region is no peer any more", async () => {
    const gone = fleet.region.nodeId(three);
    await hearth(three, "down");
    await until("it is removed", 60_000, async () => {
      const { code } = await one.hearth(["node", "remove", gone, "--force"]);
      return code === 0 ? true : undefined;
    });
    await until("it is no peer", 20_000, async () => {
      const { nodes } = await mesh();
      return nodes.length === 2 && nodes.every(({ peers }: Json) => peers.length === 1) ? true : undefined;
    });
    for (const host of [one, two]) {
      assert.ok(
        !(await sh(host, "ip -6 route")).includes(at(three).replace(/1$/, "")),
        "no route leads there",
      );
      assert.equal((await sh(host, "wg show all peers")).trim().split("\n").length, 1);
    }
  });
});
