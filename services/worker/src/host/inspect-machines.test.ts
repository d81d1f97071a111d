import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Difference, Inspection } from "@hearth/machine";
import { firewallTable, namespacePath, slotPrefix } from "@hearth/network";
import { DrillNode, eventually, hostImage } from "../drill/drill-node.ts";
import { type DrillMachine, newDrillMachine, operations } from "../drill/operations.ts";

const root = process.getuid?.() === 0;
const told = (differences: readonly Difference[]) =>
  differences.map(({ kind, problem, machine_id }) => `${kind} ${problem} ${machine_id}`).sort();

describe("a comparison of the record and the host", { skip: root ? false : "making taps needs root" }, () => {
  const node = new DrillNode("sim");
  const machine: DrillMachine = newDrillMachine();
  const { id } = machine;
  const inspect = async () => (await node.command("inspect", {})) as Inspection;

  before(async () => {
    await node.start(hostImage);
    await operations.find(({ name }) => name === "stop")?.before(node, machine);
  });
  after(async () => node[Symbol.asyncDispose]());

  test("finds nothing beside a machine that runs", async () => {
    assert.deepEqual(await inspect(), { node_id: node.config.node_id, machines: 1, differences: [] });
  });

  test("names what is on the host and in no ledger", async () => {
    const tap = `${slotPrefix(node.config.node_id)}stray`;
    const table = firewallTable(node.config.node_id);
    execFileSync("ip", ["tuntap", "add", "dev", tap, "mode", "tap"]);
    execFileSync("nft", ["add", "element", "inet", table, "guest_ifaces", `{ "${tap}" }`]);
    execFileSync("ip", ["netns", "add", tap]);
    const stray = join(node.paths.machines, "00000000000000");
    mkdirSync(stray);
    writeFileSync(join(stray, "scratch.ext4"), "");
    try {
      assert.deepEqual(told((await inspect()).differences), [
        "disk unexpected null",
        "firewall-element unexpected null",
        "interface unexpected null",
        "machine-directory unexpected null",
        "namespace unexpected null",
      ]);
    } finally {
      execFileSync("ip", ["netns", "del", tap]);
      execFileSync("ip", ["link", "del", tap]);
      execFileSync("nft", ["delete", "element", "inet", table, "guest_ifaces", `{ "${tap}" }`]);
      execFileSync("rm", ["-r", stray]);
    }
    assert.deepEqual((await inspect()).differences, []);
  });

  test("names what is open or closed to nobody, or to a machine that says nothing of it", async () => {
    const strays = strayEgress(node, id);
    for (const [set, member] of strays) element("add", node, set, member);
    try {
      const { differences } = await inspect();
      assert.deepEqual(
        differences.map(({ key, machine_id }) => `${key} ${machine_id}`).sort(),
        strays.map(([set, member, owner]) => `${set} ${member.split(" timeout")[0]} ${owner}`).sort(),
      );
      assert.ok(
        differences.every(({ kind, problem }) => `${kind} ${problem}` === "firewall-element unexpected"),
      );
    } finally {
      for (const [set, member] of strays) element("delete", node, set, member.split(" timeout")[0] ?? "");
    }
    assert.deepEqual((await inspect()).differences, []);
  });

  test("names what of a machine's policy is not there any more", async () => {
    const closed = newDrillMachine({
      network: { allowOut: ["203.0.113.0/24", "a.example:443"], allow_internet_access: false },
    });
    await operations.find(({ name }) => name === "stop")?.before(node, closed);
    assert.deepEqual((await inspect()).differences, []);
    const [slot, v4] = [slotOf(node, closed.id), addressOf(node, closed.id)];
    // An address is open by its name for a while, and need not be there.
    const opened = `${v4} . 192.0.2.1 . tcp . 443`;
    element("add", node, "egress_resolved_ports_v4", `${opened} timeout 1h`);
    assert.deepEqual((await inspect()).differences, []);
    element("delete", node, "egress_resolved_ports_v4", opened);
    const lost = [
      ["egress_deny_v6", `"${slot}" . ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`],
      ["egress_named_ifaces", `"${slot}"`],
    ] as const;
    for (const [set, member] of lost) element("delete", node, set, member);
    assert.deepEqual(
      (await inspect()).differences
        .map(({ key, problem, machine_id }) => `${key} ${problem} ${machine_id}`)
        .sort(),
      lost.map(([set, member]) => `${set} ${member} missing ${closed.id}`),
    );
    for (const [set, member] of lost) element("add", node, set, member);
    await node.command("destroy", { machine_id: closed.id, force: true });
    await eventually(
      "its policy went with it",
      async () => (nft(firewallTable(node.config.node_id)).includes(slot) ? undefined : true),
      20_000,
    );
    assert.deepEqual((await inspect()).differences, []);
  });

  test("names what a machine has lost, and whose it was", async () => {
    const slot = slotOf(node, id);
    // Another namespace under the same name; the one of the virtual machine lives on without a name.
    const [path, kept] = [namespacePath(slot), join(node.paths.data, "kept")];
    writeFileSync(kept, "");
    execFileSync("mount", ["--bind", path, kept]);
    execFileSync("ip", ["netns", "del", slot]);
    execFileSync("ip", ["netns", "add", slot]);
    assert.deepEqual(told((await inspect()).differences), [
      "mount unexpected null",
      `namespace inconsistent ${id}`,
    ]);
    execFileSync("ip", ["netns", "del", slot]);
    writeFileSync(path, "");
    execFileSync("mount", ["--bind", kept, path]);
    execFileSync("umount", [kept]);
    assert.deepEqual((await inspect()).differences, []);
    execFileSync("ip", ["-n", slot, "link", "del", "tap0"]);
    assert.deepEqual(told((await inspect()).differences), [`tap missing ${id}`]);
    execFileSync("ip", ["link", "del", slot]);
    execFileSync("rm", [node.paths.scratch(id)]);
    assert.deepEqual(told((await inspect()).differences), [
      `disk missing ${id}`,
      `interface missing ${id}`,
      `route missing ${id}`,
      `tap missing ${id}`,
    ]);
  });

  test("names what the pool has lost", async () => {
    const before = told((await inspect()).differences);
    const slot = slotOf(node, "pool");
    execFileSync("nft", [
      "delete",
      "element",
      "inet",
      firewallTable(node.config.node_id),
      "guest_ifaces",
      `{ "${slot}" }`,
    ]);
    execFileSync("ip", ["netns", "del", slot]);
    const { differences } = await inspect();
    assert.deepEqual(
      told(differences).filter((one) => !before.includes(one)),
      ["firewall-element missing null", "interface missing null", "namespace missing null"],
    );
  });
});

describe("a sweep for what nobody owns", { skip: root ? false : "making taps needs root" }, () => {
  test("takes away what is ours and in no ledger, after its grace, and nothing else", async () => {
    await using node = new DrillNode("sim", { orphanSweepMs: 50, orphanGraceMs: 1_000 });
    await node.start(hostImage);
    const machine = newDrillMachine();
    await operations.find(({ name }) => name === "stop")?.before(node, machine);
    const tap = `${slotPrefix(node.config.node_id)}stray`;
    const foreign = `${slotPrefix("another node")}stray`;
    const directory = join(node.paths.machines, "00000000000000");
    const table = firewallTable(node.config.node_id);
    execFileSync("ip", ["tuntap", "add", "dev", foreign, "mode", "tap"]);
    try {
      const begunMs = Date.now();
      execFileSync("ip", ["tuntap", "add", "dev", tap, "mode", "tap"]);
      execFileSync("nft", ["add", "element", "inet", table, "guest_ifaces", `{ "${tap}" }`]);
      for (const [set, member] of strayEgress(node, machine.id)) element("add", node, set, member);
      mkdirSync(directory);
      const isGone = () =>
        !existsSync(`/sys/class/net/${tap}`) &&
        !existsSync(directory) &&
        !/stray|192\.0\.2\./.test(nft(table));
      await eventually("the strays are gone", () => (isGone() ? true : undefined), 20_000);
      assert.ok(Date.now() - begunMs >= 1_000, "not before its grace is over");
      assert.match(node.log, /what no ledger has was taken away/);
      assert.deepEqual((await node.inspect()).differences, []);
      assert.ok(existsSync(`/sys/class/net/${foreign}`), "another node's tap is not ours");
      assert.equal(node.rows("SELECT state FROM machines")[0]?.state, "started");
    } finally {
      execFileSync("ip", ["link", "del", foreign]);
    }
  });
});

/** Members of egress sets by set, and of which machine. The first are of no slot, the last of one without a policy. */
function strayEgress(node: DrillNode, machineId: string): (readonly [string, string, string | null])[] {
  const stray = `"${slotPrefix(node.config.node_id)}stray"`;
  const v4 = addressOf(node, machineId);
  return [
    ["egress_ifaces", stray, null],
    ["egress_deny_v4", `${stray} . 192.0.2.0-192.0.2.255`, null],
    ["egress_allow_ports_v6", `${stray} . 2001:db8::1 . tcp . 443`, null],
    ["egress_resolved_v4", "100.127.255.254 . 192.0.2.1 timeout 1h", null],
    ["egress_resolved_ports_v4", `${v4} . 192.0.2.2 . tcp . 443 timeout 1h`, machineId],
  ];
}

/** A guest's own, of IPv4, as the firewall has it. */
function addressOf(node: DrillNode, machineId: string): string {
  const found = new RegExp(`"${slotOf(node, machineId)}" \\. (100\\.[\\d.]+)`).exec(
    nft(firewallTable(node.config.node_id)),
  );
  assert.ok(found?.[1] !== undefined);
  return found[1];
}

const element = (verb: "add" | "delete", node: DrillNode, set: string, member: string): void =>
  void execFileSync("nft", [
    verb,
    "element",
    "inet",
    firewallTable(node.config.node_id),
    set,
    `{ ${member} }`,
  ]);

const slotOf = (node: DrillNode, owner: string): string =>
  String(
    node
      .rows("SELECT key, machine_id FROM resources WHERE kind = 'slot'")
      .find((row) => row.machine_id === owner)?.key,
  );

const nft = (table: string): string =>
  execFileSync("nft", ["list", "table", "inet", table], { encoding: "utf8" });
