import assert from "node:assert/strict";
import { test } from "node:test";
import { parseClusterPrefix } from "./address-plan.ts";
import { firewallTable } from "./firewall-plan.ts";
import { guestMac, planSlot, planTeardown, tapName } from "./slot-plan.ts";

const facts = {
  node: "n1",
  machineId: "000102ff040506",
  address: { prefix: parseClusterPrefix("fd12:3456:789a::/48"), host: 1, network: 0xabcdef01, machine: 2 },
  egressSlot: 1,
  ownerUid: 1234,
};

test("a plan follows from its facts alone", () => {
  const name = tapName("n1", facts.machineId);
  assert.deepEqual(planSlot(facts), {
    node: "n1",
    tap: { name, ownerUid: 1234, mtu: 1420 },
    hostAddresses: ["fe80::1/64", "100.64.0.2/31"],
    routes: ["fd12:3456:789a:1:abcd:ef01:0:2/128"],
    elements: [
      { set: "guest_ifaces", value: `"${name}"` },
      { set: "guests_v6", value: `"${name}" . fd12:3456:789a:1:abcd:ef01:0:2` },
      { set: "guests_v4", value: `"${name}" . 100.64.0.3` },
      { set: "linked_networks", value: "0xabcdef01 . 0xabcdef01" },
    ],
    guest: {
      mac: guestMac(facts.machineId),
      addressV6: "fd12:3456:789a:1:abcd:ef01:0:2/128",
      gatewayV6: "fe80::1",
      addressV4: "100.64.0.3/31",
      gatewayV4: "100.64.0.2",
      mtu: 1420,
    },
  });
});

test("names are as the kernel takes them, and differ between nodes and machines", () => {
  const name = tapName("n1", facts.machineId);
  assert.match(name, /^hth[0-9a-f]{12}$/);
  assert.notEqual(tapName("n2", facts.machineId), name);
  assert.notEqual(tapName("n1", "000102ff040507"), name);
  assert.match(guestMac(facts.machineId), /^02(:[0-9a-f]{2}){5}$/);
});

test("a teardown leaves the network's link to the other machines of the network", () => {
  const sets = planTeardown(planSlot(facts)).elements.map(({ set }) => set);
  assert.deepEqual(sets, ["guest_ifaces", "guests_v6", "guests_v4"]);
});

test("network 0 and unfit node names are refused", () => {
  const address = { ...facts.address, network: 0 };
  assert.throws(() => planSlot({ ...facts, address }), { code: "invalid_argument" });
  assert.throws(() => firewallTable("n1; flush ruleset"), { code: "invalid_argument" });
});
