/** The guard of a real VM: it ends it when its worker is dead, and is there again when somebody took it away. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { guardProcesses } from "./host-leftovers.ts";
import { HostPaths } from "./host-paths.ts";
import { missing, startNode, type TestNode } from "./testing/node-fixture.ts";

const reason = missing();
const lease = { ttl_ms: 4_000, renew_ms: 500, margin_ms: 2_000 };
let node: TestNode;

before(async () => {
  if (reason === false) node = await startNode(lease);
});
after(async () => await node?.[Symbol.asyncDispose]());

async function until(what: string, holds: () => Promise<boolean> | boolean, limitMs: number): Promise<void> {
  const limit = Date.now() + limitMs;
  while (!(await holds())) {
    if (Date.now() > limit) throw new Error(`never: ${what}`);
    await delay(50);
  }
}

test("a VM whose worker is dead ends with the lease, and starts again with its worker", {
  skip: reason,
}, async () => {
  const { record } = await node.create({ restart_elsewhere: true, restart: { policy: "no" } });
  await node.state(record.id, "started");
  const guards = () => guardProcesses(new HostPaths(node.config).runs);
  assert.equal((await guards()).length, 1);
  assert.equal(node.vms().length, 1);
  const { differences } = (await node.command("inspect", {})) as { differences: unknown[] };
  assert.deepEqual(differences, []);
  await node.end("SIGKILL");
  await until("the VM has ended", () => node.vms().length === 0, lease.ttl_ms + lease.margin_ms);
  await until("its guard too", async () => (await guards()).length === 0, 2_000);
  await node.start();
  await until("it runs again", () => node.vms().length === 1, 30_000);
  await node.state(record.id, "started");
});

test("a guard that somebody killed is missed", { skip: reason }, async () => {
  const [guard] = await guardProcesses(new HostPaths(node.config).runs);
  process.kill(guard?.pid ?? 0, "SIGKILL");
  const { differences } = (await node.command("inspect", {})) as { differences: { kind: string }[] };
  assert.deepEqual(
    differences.map(({ kind }) => kind),
    ["guard"],
  );
});
