import assert from "node:assert/strict";
import { BlockList, isIPv6 } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import {
  type ClusterPrefix,
  egressPair,
  egressSlot,
  egressSlots,
  formatClusterPrefix,
  formatMachineAddress,
  hostAddress,
  hostPrefix,
  networkNumber,
  newClusterPrefix,
  nextEgressSlot,
  nextHostNumber,
  nextMachineNumber,
  parseClusterPrefix,
  parseMachineAddress,
} from "./address-plan.ts";

const prefixes = fc
  .uint8Array({ minLength: 5, maxLength: 5 })
  .map((bytes): ClusterPrefix => newClusterPrefix(() => bytes));
const addresses = fc.record(
  {
    prefix: prefixes,
    host: fc.integer({ min: 0, max: 2 ** 16 - 1 }),
    network: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    machine: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  },
  { noNullPrototype: true },
);

test("an address gives back the numbers it was made of", () => {
  fc.assert(
    fc.property(addresses, (address) => {
      const text = formatMachineAddress(address);
      assert.ok(isIPv6(text), text);
      assert.deepEqual(parseMachineAddress(text), address);
      // The platform's own URL parser writes RFC 5952 as well.
      assert.equal(new URL(`http://[${text}]/`).hostname, `[${text}]`);
    }),
  );
});

test("two addresses are the same only when all their numbers are", () => {
  // Small numbers and the edges, so that most of what is compared differs in one field.
  const near = (bits: number) =>
    fc.oneof(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 2 ** bits - 3, max: 2 ** bits - 1 }));
  const pair = fc.record({ host: near(16), network: near(32), machine: near(32) });
  fc.assert(
    fc.property(prefixes, pair, pair, (prefix, one, other) => {
      const same = one.host === other.host && one.network === other.network && one.machine === other.machine;
      const texts = [one, other].map((numbers) => formatMachineAddress({ ...numbers, prefix }));
      assert.equal(texts[0] === texts[1], same, texts.join(" "));
    }),
  );
});

test("every address lies in the /64 of its host and in no other host's", () => {
  const list = (cidr: string): BlockList => {
    const block = new BlockList();
    const [network = "", length] = cidr.split("/");
    block.addSubnet(network, Number(length), "ipv6");
    return block;
  };
  fc.assert(
    fc.property(addresses, fc.integer({ min: 0, max: 2 ** 16 - 1 }), (address, other) => {
      const { prefix, host } = address;
      const text = formatMachineAddress(address);
      assert.ok(list(hostPrefix(prefix, host)).check(text, "ipv6"));
      assert.ok(list(formatClusterPrefix(prefix)).check(text, "ipv6"));
      assert.equal(list(hostPrefix(prefix, other)).check(text, "ipv6"), other === host);
    }),
  );
});

test("a host's own address is that of no machine", () => {
  fc.assert(
    fc.property(addresses, fc.string({ minLength: 1 }), ({ prefix, host, machine }, name) => {
      const network = networkNumber(name);
      assert.ok(network > 0 && network < 2 ** 32);
      assert.notEqual(hostAddress(prefix, host), formatMachineAddress({ prefix, host, network, machine }));
    }),
  );
  assert.equal(hostAddress(parseClusterPrefix("fd12:3456:789a::/48"), 7), "fd12:3456:789a:7::1");
});

test("a cluster prefix is read back from its text", () => {
  fc.assert(
    fc.property(prefixes, (prefix) => assert.equal(parseClusterPrefix(formatClusterPrefix(prefix)), prefix)),
  );
});

test("known addresses", () => {
  const prefix = parseClusterPrefix("fd12:3456:789a::/48");
  const address = { prefix, host: 1, network: 0xabcdef01, machine: 2 };
  assert.equal(formatMachineAddress(address), "fd12:3456:789a:1:abcd:ef01:0:2");
  assert.equal(hostPrefix(prefix, 1), "fd12:3456:789a:1::/64");
  assert.deepEqual(egressPair(1), { hostV4: "100.64.0.2", guestV4: "100.64.0.3", prefixLength: 31 });
});

test("what is no prefix of a cluster is refused", () => {
  for (const text of ["fd00::/64", "2001:db8::/48", "fd00:0:0:1::/48", "fd00::", "x/48"])
    assert.throws(() => parseClusterPrefix(text), { code: "invalid_argument" }, text);
});

test("numbers that do not fit are refused", () => {
  const prefix = parseClusterPrefix("fd00::/48");
  assert.throws(() => hostPrefix(prefix, 65_536), { code: "invalid_argument" });
  assert.throws(() => egressPair(egressSlots), { code: "invalid_argument" });
});

test("an egress address gives back its slot, and stays within 100.64.0.0/10", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: egressSlots - 1 }), (slot) => {
      const { hostV4, guestV4 } = egressPair(slot);
      assert.equal(egressSlot(hostV4), slot);
      assert.equal(egressSlot(guestV4), slot);
      assert.match(guestV4, /^100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\./);
    }),
  );
  assert.equal(egressSlot("100.128.0.0"), undefined);
  assert.equal(egressSlot("10.0.0.1"), undefined);
});

test("a free number is never one that is taken, wraps round, and ends in network_exhausted", () => {
  assert.equal(nextMachineNumber(new Set([2, 3])), 4);
  assert.equal(nextMachineNumber(new Set([4]), 4, 5), 2);
  assert.throws(() => nextMachineNumber(new Set([2, 3, 4]), 2, 5), { code: "network_exhausted" });
  assert.throws(() => nextEgressSlot(new Set([1, 2]), 1, 3), { code: "network_exhausted" });
  assert.equal(nextHostNumber(new Set([1, 2, 4])), 3);
  const allHosts = new Set(Array.from({ length: 2 ** 16 - 1 }, (_, index) => index + 1));
  assert.throws(() => nextHostNumber(allHosts), { code: "network_exhausted" });
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 2, max: 40 }), { maxLength: 30 }),
      fc.integer({ min: 2, max: 40 }),
      (list, from) => {
        const taken = new Set(list);
        assert.ok(!taken.has(nextMachineNumber(taken, from, 41)));
      },
    ),
  );
});
