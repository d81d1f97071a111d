/** A real virtual machine monitor that has stopped: it answers nobody, and its machine must still end. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { missing, startNode } from "../testing/node-fixture.ts";

describe("a VMM that answers nothing", { skip: missing(), timeout: 120_000 }, () => {
  for (const [name, request, state] of [
    ["stop", { timeout_ms: 500 }, "stopped"],
    ["destroy", { force: true }, "destroyed"],
  ] as const)
    test(`does not keep its machine from ${name}`, async () => {
      await using node = await startNode();
      const { record } = await node.create();
      await node.state(record.id, "started");
      const [vm] = node.vms();
      assert.ok(vm !== undefined);
      process.kill(vm, "SIGSTOP");
      await node.command(name, { machine_id: record.id, ...request });
      const ended = await node.state(record.id, state);
      assert.equal(ended.events.filter(({ type }) => type === "failed").length, 0);
      assert.deepEqual(node.vms(), []);
      assert.deepEqual(node.slotsHeld(), []);
      assert.deepEqual(readdirSync(join(node.config.run_dir, "m")), []);
    });
});
