/**
 * Hosts that are lost, come back, and are lost half-way, with two API processes at work. After each: no machine ever
 * ran twice at once, and each that was to run runs once.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { lease, SimRegion } from "./sim-region.ts";

let region: SimRegion;
const elsewhere = { restart_elsewhere: true };
const isRoot = process.getuid?.() === 0;
const options = { skip: isRoot ? false : "making taps needs root", timeout: 120_000 };

before(async () => {
  if (!isRoot) return;
  region = new SimRegion();
  await region.start(3);
});
after(async () => await region?.[Symbol.asyncDispose]());
afterEach(() => {
  if (isRoot) assert.deepEqual(region.doubles(), []);
});

const runsOnce = (id: string) => region.until(`${id} runs once`, () => region.runsOn(id).length === 1);
const movedFrom = (id: string, node: string) =>
  region.until(`${id} left ${node}`, () => region.runsOn(id).some((one) => one !== node), 40_000);
const held = (node: string) =>
  region.until(`${node} has its lease`, async () => {
    const state = region.lease(node)?.state;
    const { json } = await region.call("GET", `/v1/nodes/${node}`);
    return state === "held" && json.state === "ready";
  });

test(
  "a dead worker's machine is ended by its guard and starts on another node; the rest stays and is named",
  options,
  async () => {
    const { id, node } = await region.create(elsewhere);
    const stays = await region.create({}, { region: "local" });
    await region.endWorker(node);
    await movedFrom(id, node);
    await region.untilState(id, "started");
    assert.equal((await region.machine(id)).json.host_status, "ok");
    if (stays.node === node) {
      const { json } = await region.machine(stays.id);
      assert.equal(json.host_status, "unreachable");
      const begun = Date.now();
      const refused = await region.call("POST", `/v1/apps/web/machines/${stays.id}/stop`, {});
      assert.equal(refused.status, 503);
      assert.match(refused.json.error, new RegExp(node));
      assert.ok(Date.now() - begun < 5_000);
      assert.deepEqual(region.runsOn(stays.id), [node], "a machine without the flag runs on");
    }
    await region.startWorker(node);
    await held(node);
    await region.until("the old node has forgotten it", () => !region.nodesOf(id).includes(node));
    await runsOnce(id);
  },
);

test("a worker that was stopped and goes on acts on no right that is over", options, async () => {
  const { id, node } = await region.create(elsewhere);
  region.signal(node, "SIGSTOP");
  await movedFrom(id, node);
  region.signal(node, "SIGCONT");
  await held(node);
  await region.until("the old node has forgotten it", () => !region.nodesOf(id).includes(node));
  await runsOnce(id);
  assert.notEqual(region.nodeOf(id), node);
});

test(
  "a host that restarts within its time starts its machine again, and nobody else does",
  options,
  async () => {
    const { id, node } = await region.create({ ...elsewhere, restart: { policy: "no" } });
    await region.reboot(node);
    await region.startWorker(node);
    await runsOnce(id);
    assert.equal(region.nodeOf(id), node);
  },
);

test("a host that comes back after its restart forgets what has moved", options, async () => {
  const { id, node } = await region.create(elsewhere);
  await region.reboot(node);
  await movedFrom(id, node);
  await region.startWorker(node);
  await held(node);
  await region.until("the old node has forgotten it", () => !region.nodesOf(id).includes(node));
  await runsOnce(id);
});

test(
  "a bus that is away ends what needs the lease, moves nothing, and all of it starts again",
  options,
  async () => {
    const { id, node } = await region.create({ ...elsewhere, restart: { policy: "no" } });
    await region.server.stop();
    await region.until("it was ended", () => region.runsOn(id).length === 0, lease.ttl_ms + lease.margin_ms);
    await delay(lease.margin_ms);
    await region.server.start();
    await runsOnce(id);
    assert.deepEqual(region.runsOn(id), [node]);
    assert.equal(region.nodeOf(id), node);
  },
);

test("an API that is killed during a move leaves it to the other", options, async () => {
  const made = [
    await region.create(elsewhere),
    await region.create(elsewhere),
    await region.create(elsewhere),
  ];
  const node = made[0]?.node ?? "";
  await region.endWorker(node);
  await region.until("the node was given up", () => region.lease(node)?.state === "fenced");
  await region.endApi(0);
  for (const { id } of made) await runsOnce(id);
  for (const one of made.filter((each) => each.node === node)) await movedFrom(one.id, node);
  await region.startWorker(node);
  await held(node);
  for (const { id } of made) await runsOnce(id);
  await region.startApi();
});
