/** The guard of a real VM: it ends it when its worker is dead, and is there again when somebody took it away. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { missing, startNode, type TestNode } from "../testing/node-fixture.ts";
import { guardProcesses } from "./host-leftovers.ts";
import { HostPaths } from "./host-paths.ts";

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
  assert.equal((await guards()).length, 1);
  assert.equal(node.vms().length, 1);
  assert.deepEqual(await differences(), []);
  await node.end("SIGKILL");
  await until("the VM has ended", () => node.vms().length === 0, lease.ttl_ms + lease.margin_ms);
  await until("its guard too", async () => (await guards()).length === 0, 2_000);
  await node.start();
  await until("it runs again", () => node.vms().length === 1, 30_000);
  await node.state(record.id, "started");
});

test("a guard that somebody killed is missed", { skip: reason }, async () => {
  const [guard] = await guards();
  process.kill(guard?.pid ?? 0, "SIGKILL");
  assert.deepEqual(await differences(), ["guard"]);
});

test("the sweep puts back a guard that is gone, and a worker that is started anew makes no second", {
  skip: reason,
}, async () => {
  const vms = node.vms();
  assert.equal(vms.length, 1);
  await node.end("SIGKILL");
  await node.start("quick-sweep-main.ts");
  await until("another guard", async () => (await guards()).length === 1, 10_000);
  const found = await guards();
  for (let restarts = 0; restarts < 2; restarts += 1) {
    await swept();
    assert.deepEqual([await guards(), node.vms()], [found, vms], "the same processes, and no more");
    assert.deepEqual(await differences(), []);
    await node.end("SIGKILL");
    await node.start("quick-sweep-main.ts");
  }
  assert.match(node.output.join(""), /the guard of a machine was gone and is there again/);
});

const guards = () => guardProcesses(new HostPaths(node.config).runs);

async function differences(): Promise<string[]> {
  const answer = (await node.command("inspect", {})) as { differences: { kind: string }[] };
  return answer.differences.map(({ kind }) => kind);
}

/** Resolves after a sweep of the worker: it has taken away what nobody owns, after it looked at the guards. */
async function swept(): Promise<void> {
  const stray = join(new HostPaths(node.config).runs, "0123456789abcd");
  mkdirSync(stray);
  await until("a sweep", () => !existsSync(stray), 20_000);
}
