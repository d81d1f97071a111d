/** Cordon, drain, undrain and remove, with real workers and two API processes. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { SimRegion } from "./sim-region.ts";

let region: SimRegion;
const isRoot = process.getuid?.() === 0;
const options = { skip: isRoot ? false : "making taps needs root", timeout: 120_000 };

before(async () => {
  if (!isRoot) return;
  region = new SimRegion();
  await region.start(2);
});
after(async () => await region?.[Symbol.asyncDispose]());

const ask = (verb: string, node: string) => region.call("POST", `/v1/nodes/${node}/${verb}`, {});
const show = async (node: string) => (await region.call("GET", `/v1/nodes/${node}`)).json;
const other = (node: string) => [...region.hosts.keys()].find((id) => id !== node) ?? "";

test("a cordoned node takes no new machine, and its own run on", options, async () => {
  const [cordoned = "", open] = region.hosts.keys();
  assert.equal((await ask("cordon", cordoned)).json.state, "cordoned");
  const made = [await region.create(), await region.create()];
  assert.deepEqual([...new Set(made.map(({ node }) => node))], [open]);
  await ask("cordon", open ?? "");
  const refused = await region.call("POST", "/v1/apps/web/machines", {
    config: { image: "local/box:1", guest: { cpus: 1, memory_mb: 64 } },
  });
  assert.equal(
    refused.json.code ?? refused.json.error_code ?? "insufficient_capacity",
    "insufficient_capacity",
  );
  assert.match(JSON.stringify(refused.json), /is cordoned/);
  for (const node of region.hosts.keys()) assert.equal((await ask("uncordon", node)).json.state, "ready");
  assert.equal((await ask("cordon", "nosuch")).status, 404);
  for (const { id } of made) await region.call("DELETE", `/v1/apps/web/machines/${id}?force=true`);
});

test(
  "a drain moves what runs and what is stopped, keeps what cannot be moved and says why",
  options,
  async () => {
    const runs = await region.create();
    const { node } = runs;
    await ask("cordon", other(node));
    const [second, stopped, kept, leased] = [
      await region.create(),
      await region.create({}, { skip_launch: true }),
      await region.create({ guest: { cpus: 1, memory_mb: 64, persist_rootfs: "always" } }),
      await region.create(),
    ];
    await ask("uncordon", other(node));
    const lease = await region.call("POST", `/v1/apps/web/machines/${leased.id}/lease`, { ttl: 600 });
    assert.equal(lease.status, 201);
    await ask("drain", node);
    await region.until("the rest has moved", async () => {
      const { remaining, moved } = await show(node);
      return (
        moved.length === 3 && remaining.length === 2 && remaining.every(({ why }: { why: unknown }) => why)
      );
    });
    const { remaining } = await show(node);
    const why = (id: string) => remaining.find((one: { machine_id: string }) => one.machine_id === id)?.why;
    assert.match(why(kept.id), /persist_rootfs/);
    assert.match(why(leased.id), /lease currently held/);
    assert.deepEqual(region.runsOn(leased.id), [node]);
    for (const { id } of [runs, second]) {
      await region.untilState(id, "started");
      assert.deepEqual(region.nodesOf(id).includes(other(node)), true);
    }
    assert.equal((await region.machine(stopped.id)).json.state, "created");
    await region.call("DELETE", `/v1/apps/web/machines/${kept.id}?force=true`);
    const nonce = { "fly-machine-lease-nonce": lease.json.data.nonce };
    await region.call("DELETE", `/v1/apps/web/machines/${leased.id}/lease`, undefined, nonce);
    await region.until("the node is drained", async () => (await show(node)).state === "drained");
    for (const { id } of [runs, second, stopped, leased])
      await region.until(`${id} is forgotten there`, () => !region.nodesOf(id).includes(node));
    assert.deepEqual(region.doubles(), []);
    assert.equal((await ask("undrain", node)).json.state, "ready");
    for (const { id } of [runs, second, stopped, leased])
      await region.call("DELETE", `/v1/apps/web/machines/${id}?force=true`);
  },
);

test("an app is not drained below its minimum", options, async () => {
  const services = [{ protocol: "tcp", internal_port: 80, min_machines_running: 1 }];
  const only = await region.create({ services });
  await ask("drain", only.node);
  await region.until("it says why", async () => {
    const { remaining } = await show(only.node);
    return /0 running of at least 1/.test(remaining[0]?.why ?? "");
  });
  assert.deepEqual(region.runsOn(only.id), [only.node]);
  await ask("undrain", only.node);
  await region.call("DELETE", `/v1/apps/web/machines/${only.id}?force=true`);
});

test("a node is removed when it is empty, or gone with what it had", options, async () => {
  const { id, node } = await region.create();
  const refused = await region.call("DELETE", `/v1/nodes/${node}`);
  assert.equal(refused.status, 409);
  assert.match(JSON.stringify(refused.json), new RegExp(id));
  assert.equal((await region.call("DELETE", `/v1/nodes/${node}?force=true`)).status, 409, "it is alive");
  await region.endWorker(node);
  await region.until("it was given up", () => region.lease(node)?.state === "fenced");
  const removed = await region.call("DELETE", `/v1/nodes/${node}?force=true`);
  assert.deepEqual(removed.json.forgotten, [id]);
  assert.equal((await region.machine(id)).status, 404);
  assert.equal((await region.call("GET", `/v1/nodes/${node}`)).status, 404);
  assert.equal(region.lease(node)?.state, "removed");
});
