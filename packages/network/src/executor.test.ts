import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { parseClusterPrefix } from "./address-plan.ts";
import { NetworkExecutor } from "./executor.ts";
import { planSlot, planSlotBuild, planTeardown, planUnclaimedTeardown, slotPrefix } from "./slot-plan.ts";

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
const names = Array.from({ length: 10 }, () => `${slotPrefix("n1")}${randomBytes(4).toString("hex")}`);
const nameOf = (machine: number): string => names[machine] ?? "";
const buildOf = (machine: number) => planSlotBuild({ node: "n1", slot: nameOf(machine), ownerUid: 1234 });
const slot = (machine: number) =>
  planSlot({
    node: "n1",
    slot: nameOf(machine),
    machineId: machine.toString(16).padStart(14, "0"),
    address: { prefix, host: 1, network: 7, machine },
    egressSlot: machine,
  });
const executor = new NetworkExecutor({ namespace });

before(() => {
  if (root) execFileSync("ip", ["netns", "add", namespace]);
});
after(() => {
  if (!root) return;
  const left = readdirSync("/run/netns").filter((name) => names.includes(name));
  for (const name of [...left, namespace]) execFileSync("ip", ["netns", "del", name]);
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

test("a slot of nobody is whole, has no address of a machine, and is taken away twice", options, async () => {
  await executor.applyNode(node);
  await executor.buildSlot(buildOf(2));
  assert.ok(await executor.hasSlot(nameOf(2)));
  const within = (...words: string[]) =>
    execFileSync("ip", ["-n", nameOf(2), ...words], { encoding: "utf8" });
  assert.match(within("-N", "-d", "link", "show", "dev", "tap0"), /tap .*user 1234/);
  assert.doesNotMatch(inside("ip", "-o", "addr", "show", "dev", nameOf(2)), /100\.64|fd12/);
  assert.match(inside("nft", "list", "ruleset"), new RegExp(`guest_ifaces[^}]*"${nameOf(2)}"`));
  for (let time = 0; time < 2; time += 1) await executor.removeSlot(planUnclaimedTeardown("n1", nameOf(2)));
  assert.ok(!(await executor.hasSlot(nameOf(2))));
  assert.ok(!inside("nft", "list", "ruleset").includes(nameOf(2)));
  assert.ok(!readdirSync("/run/netns").includes(nameOf(2)));
});

test(
  "a slot is applied twice, stays through a node applied again, and is removed twice",
  options,
  async () => {
    const plan = slot(3);
    const other = slot(4);
    await executor.applyNode(node);
    for (const machine of [3, 4]) await executor.buildSlot(buildOf(machine));
    await executor.applySlot(plan);
    await executor.applySlot(other);
    const state = () =>
      [
        inside("ip", "-o", "addr", "show"),
        inside("ip", "-6", "route"),
        inside("ip", "neigh", "show"),
        inside("nft", "list", "ruleset"),
      ].join("\n");
    const once = state();
    await executor.applySlot(plan);
    await executor.applyNode(node);
    assert.equal(state(), once);
    assert.match(once, new RegExp(`fd12:3456:789a:1:0:7:0:3 dev ${plan.slot}`));
    assert.match(once, new RegExp(`100\\.64\\.0\\.7 dev ${plan.slot} lladdr ${plan.guest.mac} PERMANENT`));

    await executor.removeSlot(planTeardown(plan));
    await executor.removeSlot(planTeardown(plan));
    const left = state();
    assert.ok(!left.includes(plan.slot));
    assert.ok(left.includes(other.slot));
    assert.match(left, /0x0*7 \. 0x0*7/);
    await executor.removeSlot(planTeardown(other));
  },
);

test("a change that the host refuses is an error, and the next one is made", options, async () => {
  await executor.applyNode(node);
  await assert.rejects(executor.applySlot(slot(6)), { code: "internal" });
  await executor.buildSlot(buildOf(6));
  await executor.applySlot(slot(6));
  assert.match(inside("ip", "-6", "route"), new RegExp(`dev ${nameOf(6)}`));
  await executor.removeSlot(planTeardown(slot(6)));
});

test("a change is made when the program that is kept for it was killed", options, async () => {
  await executor.applyNode(node);
  await executor.buildSlot(buildOf(7));
  const kept = keptPrograms();
  assert.deepEqual(kept.map(({ line }) => line).sort(), ["ip -o -force -batch -", "nft -i"]);
  for (const { pid } of kept) process.kill(pid, "SIGSTOP");
  const applied = executor.applySlot(slot(7));
  for (const { pid } of kept) process.kill(pid, "SIGKILL");
  await applied;
  assert.match(inside("nft", "list", "ruleset"), new RegExp(`"${nameOf(7)}" \\. 100\\.64`));
  assert.match(inside("ip", "neigh", "show"), new RegExp(`dev ${nameOf(7)} lladdr`));
  await executor.removeSlot(planTeardown(slot(7)));
});

/** Programs below this process that wait for lines. */
function keptPrograms(): { readonly pid: number; readonly line: string }[] {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").split(" ").filter(Boolean);
  return children.map((pid) => ({
    pid: Number(pid),
    line: readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").filter(Boolean).join(" "),
  }));
}

test("half a slot is taken away as a whole one is", options, async () => {
  await executor.applyNode(node);
  await assert.rejects(executor.buildSlot({ ...buildOf(5), wiring: ["qdisc add dev nothing clsact"] }));
  assert.ok(await executor.hasSlot(nameOf(5)));
  await executor.removeSlot(planUnclaimedTeardown("n1", nameOf(5)));
  assert.ok(!inside("nft", "list", "ruleset").includes(nameOf(5)));
  assert.ok(!(await executor.hasSlot(nameOf(5))));
});

test("a node is removed twice, and a slot without its node is no error", options, async () => {
  await executor.applyNode(node);
  await executor.removeNode("n1");
  await executor.removeNode("n1");
  await executor.removeSlot(planTeardown(slot(2)));
  assert.equal(inside("nft", "list", "ruleset"), "");
  assert.ok(!inside("ip", "-o", "link").includes("hth"));
});
