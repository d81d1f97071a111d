import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { parseClusterPrefix } from "./address-plan.ts";
import { NetworkExecutor } from "./executor.ts";
import { planSlot, planTeardown } from "./slot-plan.ts";

const root = process.getuid?.() === 0;
const options = { skip: root ? false : "needs root for a network namespace" };
const namespace = `hth-test-${randomBytes(4).toString("hex")}`;
const inside = (...command: string[]): string =>
  execFileSync("ip", ["netns", "exec", namespace, ...command], { encoding: "utf8" });

const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const node = {
  node: "n1",
  prefix,
  meshInterfaces: ["wg0"],
  hostServices: [{ address: "fd12:3456:789a::3", protocol: "udp", port: 53 }],
} as const;
const slot = (machine: number, ownerUid = 1234) =>
  planSlot({
    node: "n1",
    machineId: machine.toString(16).padStart(14, "0"),
    address: { prefix, host: 1, network: 7, machine },
    egressSlot: machine,
    ownerUid,
  });
const executor = new NetworkExecutor({ namespace });

before(() => {
  if (root) execFileSync("ip", ["netns", "add", namespace]);
});
after(() => {
  if (root) execFileSync("ip", ["netns", "del", namespace]);
});

test("a node is applied twice and the second time changes nothing", options, async () => {
  await executor.applyNode(node);
  const once = inside("nft", "list", "ruleset");
  await executor.applyNode(node);
  assert.equal(inside("nft", "list", "ruleset"), once);
  assert.match(once, /table inet hearth_n1/);
  assert.match(once, /masquerade/);
  assert.equal(inside("sysctl", "-n", "net.ipv6.conf.all.forwarding").trim(), "1");
});

test(
  "a slot is applied twice, stays through a node applied again, and is removed twice",
  options,
  async () => {
    const plan = slot(2);
    const other = slot(3);
    await executor.applyNode(node);
    await executor.applySlot(plan);
    await executor.applySlot(other);
    const state = () =>
      [
        inside("ip", "-o", "addr", "show"),
        inside("ip", "-6", "route"),
        inside("nft", "list", "ruleset"),
      ].join("\n");
    const once = state();
    await executor.applySlot(plan);
    await executor.applyNode(node);
    assert.equal(state(), once);
    assert.match(inside("ip", "-N", "-d", "link", "show", "dev", plan.tap.name), /tap .*user 1234/);
    assert.match(once, /fd12:3456:789a:1:0:7:0:2 dev hth/);

    await executor.removeSlot(planTeardown(plan));
    await executor.removeSlot(planTeardown(plan));
    const left = state();
    assert.ok(!left.includes(plan.tap.name));
    assert.ok(left.includes(other.tap.name));
    assert.match(left, /0x0*7 \. 0x0*7/);
    await executor.removeSlot(planTeardown(other));
  },
);

test("a tap of another owner is made anew", options, async () => {
  await executor.applyNode(node);
  await executor.applySlot(slot(4, 1000));
  await executor.applySlot(slot(4, 2000));
  assert.match(inside("ip", "-N", "-d", "link", "show", "dev", slot(4).tap.name), /tap .*user 2000/);
  await executor.removeSlot(planTeardown(slot(4)));
});

test("a node is removed twice, and a slot without its node is no error", options, async () => {
  await executor.applyNode(node);
  await executor.removeNode("n1");
  await executor.removeNode("n1");
  await executor.removeSlot(planTeardown(slot(2)));
  assert.equal(inside("nft", "list", "ruleset"), "");
  assert.ok(!inside("ip", "-o", "link").includes("hth"));
});
