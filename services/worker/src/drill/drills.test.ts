/** The drills themselves, in small: `npm run drill` runs them whole. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { after, before, describe, test } from "node:test";
import { readHostInventory } from "../host/host-inventory.ts";
import { agentProgram } from "../testing/agent-guest.ts";
import { runChurn } from "./churn.ts";
import { runCrashMatrix } from "./crash-matrix.ts";
import { DrillNode, hostImage } from "./drill-node.ts";
import { runStepFaults } from "./step-faults.ts";

const skip =
  process.getuid?.() !== 0
    ? "making taps needs root"
    : existsSync(agentProgram)
      ? false
      : "the guest agent is not built";

describe("drills", { skip, timeout: 280_000 }, () => {
  let node = new DrillNode("sim");
  before(async () => await node.start(hostImage));
  after(async () => node[Symbol.asyncDispose]());

  async function renew(worn: DrillNode): Promise<DrillNode> {
    await worn[Symbol.asyncDispose]();
    node = new DrillNode("sim");
    await node.start(hostImage);
    return node;
  }

  for (const operation of ["create", "update", "force-destroy", "reboot"])
    test(`${operation} converges after kills at a few of its points, and of the next worker`, async () => {
      const options = { seed: Date.now() % 1_000_000, sample: 8, operations: [operation] };
      const { runs, violations, seed } = await runCrashMatrix([node], options);
      assert.deepEqual(violations, [], `seed ${seed}`);
      assert.equal(runs, 8);
    });

  test("a node that has had its share of the runs is replaced, and the rest are of the next one", async () => {
    const worn = node.config.node_id;
    const options = { seed: 1, sample: 3, operations: ["stop"], renew, runsPerNode: 2 };
    const { runs, violations } = await runCrashMatrix([node], options);
    assert.deepEqual([runs, violations], [3, []]);
    assert.notEqual(node.config.node_id, worn);
    const machines = node.rows("SELECT count(*) AS n FROM machines");
    assert.deepEqual(
      machines.map(({ n }) => n),
      [1],
    );
  });

  test("a node that is taken away in the middle of its runs leaves nothing, and ends them", async () => {
    const worn = new DrillNode("sim");
    await worn.start(hostImage);
    const { config, paths } = worn;
    const begun = Promise.withResolvers<void>();
    const onRun = (line: string): void => void (/^1\//.test(line) && begun.resolve());
    const runs = runCrashMatrix([worn], { seed: 1, operations: ["create-unlaunched"], onRun });
    const ended = assert.rejects(runs);
    await begun.promise;
    await worn[Symbol.asyncDispose]();
    await ended;
    const { processes, network } = await readHostInventory(config.node_id, paths);
    assert.deepEqual(
      [processes, network.namespaces, network.interfaces, network.elements],
      [[], [], [], undefined],
    );
    assert.equal(existsSync(dirname(config.data_dir)), false);
  });

  test("a create whose steps fail, are done twice and are undone twice leaves nothing wrong", async () => {
    const { steps, runs, violations } = await runStepFaults([node], { operations: ["create"] });
    assert.deepEqual(violations, []);
    assert.equal(steps, 6);
    assert.equal(runs, 4 * steps);
  });

  test("the matrix sees an interface that stays behind", async () => {
    // A link of the node's name that no ledger has stands for what a worker might have forgotten.
    const { slotPrefix } = await import("@hearth/network");
    const tap = `${slotPrefix(node.config.node_id)}lost`;
    execFileSync("ip", ["tuntap", "add", "dev", tap, "mode", "tap"]);
    try {
      const { violations } = await runCrashMatrix([node], {
        seed: 1,
        sample: 1,
        operations: ["create-unlaunched"],
      });
      assert.match(violations[0]?.message ?? "", /interface/);
    } finally {
      execFileSync("ip", ["link", "del", tap]);
    }
  });

  test("churn with random kills leaves nothing", async () => {
    const { kills, leaked, left } = await runChurn(node, { machines: 24, seed: Date.now() % 1_000_000 });
    assert.deepEqual(left, []);
    assert.equal(leaked, 0);
    assert.ok(kills > 0, "a worker was killed meanwhile");
  });
});
