import assert from "node:assert/strict";
import { test } from "node:test";
import { parseClusterPrefix } from "./address-plan.ts";
import { firewallTable } from "./firewall-plan.ts";
import {
  guestMac,
  linkLocalOf,
  newSlotName,
  planSlot,
  planSlotBuild,
  planTeardown,
  slotPrefix,
} from "./slot-plan.ts";

const slot = "hth0123deadbeef";
const facts = {
  node: "n1",
  slot,
  machineId: "000102ff040506",
  address: { prefix: parseClusterPrefix("fd12:3456:789a::/48"), host: 1, network: 0xabcdef01, machine: 2 },
  egressSlot: 1,
};

test("a plan follows from its facts alone", () => {
  const mac = guestMac(facts.machineId);
  const v6 = "fd12:3456:789a:1:abcd:ef01:0:2";
  const linkLocal = linkLocalOf(mac);
  assert.deepEqual(planSlot(facts), {
    node: "n1",
    slot,
    hostAddresses: ["100.64.0.2/31"],
    routes: [`${v6}/128`],
    neighbours: [
      { address: v6, mac },
      { address: linkLocal, mac },
      { address: "100.64.0.3", mac },
    ],
    elements: [
      { set: "guest_ifaces", value: `"${slot}"` },
      { set: "guests_v6", value: `"${slot}" . ${v6}` },
      { set: "guests_v6", value: `"${slot}" . ${linkLocal}` },
      { set: "guests_v4", value: `"${slot}" . 100.64.0.3` },
      { set: "linked_networks", value: "0xabcdef01 . 0xabcdef01" },
    ],
    guest: {
      mac,
      addressV6: `${v6}/128`,
      gatewayV6: "fe80::1",
      addressV4: "100.64.0.3/31",
      gatewayV4: "100.64.0.2",
      mtu: 1420,
    },
  });
});

test("a slot is closed by the firewall before it is made, and its interface comes up last", () => {
  const build = planSlotBuild({ node: "n1", slot, ownerUid: 1234 });
  assert.deepEqual(build.elements, [{ set: "guest_ifaces", value: `"${slot}"` }]);
  assert.deepEqual(build.up, [`link set dev ${slot} up`]);
  assert.ok(!build.host.some((line) => line.endsWith(" up")));
  assert.ok(build.inside.includes("tuntap add dev tap0 mode tap user 1234 vnet_hdr"));
});

test("names are as the kernel takes them, and of their node", () => {
  const name = newSlotName("n1", (length) => new Uint8Array(length).fill(0xab));
  assert.match(name, /^hth[0-9a-f]{4}abababab$/);
  assert.ok(name.startsWith(slotPrefix("n1")));
  assert.notEqual(slotPrefix("n2"), slotPrefix("n1"));
  assert.match(guestMac(facts.machineId), /^02(:[0-9a-f]{2}){5}$/);
});

test("a link-local address follows from the hardware address", () => {
  assert.equal(linkLocalOf("02:00:5e:10:00:01"), "fe80::5eff:fe10:1");
});

test("a teardown leaves the network's link to the other machines of the network", () => {
  const sets = planTeardown(planSlot(facts)).elements.map(({ set }) => set);
  assert.deepEqual(sets, ["guest_ifaces", "guests_v6", "guests_v6", "guests_v4"]);
});

test("network 0 and unfit node names are refused", () => {
  const address = { ...facts.address, network: 0 };
  assert.throws(() => planSlot({ ...facts, address }), { code: "invalid_argument" });
  assert.throws(() => firewallTable("n1; flush ruleset"), { code: "invalid_argument" });
});

test("a slot's plan has the members of its egress policy, and its teardown takes them away", () => {
  const egress = {
    allow: [],
    deny: [{ target: { kind: "block", family: 4, cidr: "192.0.2.0/24" } }],
  } as const;
  const address = { prefix: parseClusterPrefix("fd12:3456:789a::/48"), host: 1, network: 7, machine: 2 };
  const plan = planSlot({ node: "n", slot: "s", machineId: "0".repeat(14), egressSlot: 1, address, egress });
  for (const { elements } of [plan, planTeardown(plan)]) {
    const values = elements.filter(({ set }) => set.startsWith("egress_")).map(({ value }) => value);
    assert.deepEqual(values, ['"s"', '"s" . 192.0.2.0-192.0.2.255']);
  }
});
