import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Difference, Inspection } from "@hearth/machine";
import { firewallTable, tapPrefix } from "@hearth/network";
import { DrillNode, hostImage } from "./drill/drill-node.ts";
import { type DrillMachine, newDrillMachine, operations } from "./drill/operations.ts";

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
    const tap = `${tapPrefix(node.config.node_id)}stray`;
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
        "machine-directory unexpected null",
        "namespace unexpected null",
        "tap unexpected null",
      ]);
    } finally {
      execFileSync("ip", ["netns", "del", tap]);
      execFileSync("ip", ["link", "del", tap]);
      execFileSync("nft", ["delete", "element", "inet", table, "guest_ifaces", `{ "${tap}" }`]);
      execFileSync("rm", ["-r", stray]);
    }
    assert.deepEqual((await inspect()).differences, []);
  });

  test("names what a machine has lost, and whose it was", async () => {
    const [tap = ""] = node
      .rows("SELECT key FROM resources WHERE kind = 'tap'")
      .map(({ key }) => String(key));
    execFileSync("ip", ["link", "del", tap]);
    execFileSync("rm", [node.paths.scratch(id)]);
    assert.deepEqual(told((await inspect()).differences), [
      `disk missing ${id}`,
      `route missing ${id}`,
      `tap missing ${id}`,
    ]);
  });
});
