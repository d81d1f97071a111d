import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { covers, mayAsk, nameElements } from "./egress-names.ts";
import { type EgressPolicy, type EgressRule, egressElements, heedsNames } from "./egress-plan.ts";

/** Addresses of one /29, so that blocks overlap often. */
const base = 0xcb007100;
const dotted = (value: number): string => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
const ruleArb = fc
  .record({
    length: fc.integer({ min: 29, max: 32 }),
    offset: fc.nat(7),
    protocol: fc.constantFrom("tcp", "udp", undefined),
    ports: fc.option(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.nat(3))),
  })
  .map(({ length, offset, protocol, ports }): EgressRule => {
    const size = 2 ** (32 - length);
    const cidr = `${dotted(base + offset - (offset % size))}/${length}`;
    return {
      target: { kind: "block", family: 4, cidr },
      ...(protocol === undefined ? {} : { protocol }),
      ...(protocol === undefined || ports === null
        ? {}
        : { ports: { from: ports[0], to: ports[0] + ports[1] } }),
    };
  });

interface Packet {
  readonly at: number;
  readonly protocol: string;
  readonly port: number;
}
const packets: Packet[] = Array.from({ length: 8 }, (_, at) => at).flatMap((at) =>
  ["tcp", "udp", "icmp"].flatMap((protocol) =>
    Array.from({ length: 14 }, (_, port) => ({ at, protocol, port })),
  ),
);

const named = (rules: readonly EgressRule[], { at, protocol, port }: Packet): boolean =>
  rules.some(({ target, ...rule }) => {
    if (target.kind !== "block") return false;
    const [first = "", length] = target.cidr.split("/");
    const from = first.split(".").reduce((sum, part) => sum * 256 + Number(part), 0) - base;
    const isWithin = from <= at && at < from + 2 ** (32 - Number(length));
    const isPort = rule.ports === undefined || (rule.ports.from <= port && port <= rule.ports.to);
    return isWithin && isPort && (rule.protocol === undefined || rule.protocol === protocol);
  });

const holds = (value: string, { at, protocol, port }: Packet): boolean => {
  const [, addresses = "", proto, ports] = value.split(" . ");
  const [from = 0, to = from] = addresses
    .split("-")
    .map((one) => one.split(".").reduce((sum, part) => sum * 256 + Number(part), 0) - base);
  const [low = 0, high = low] = (ports ?? "0-65535").split("-").map(Number);
  return (
    from <= at && at <= to && (proto === undefined || (proto === protocol && low <= port && port <= high))
  );
};

test("the members hold what the rules name and nothing else, each packet at most once a set", () => {
  fc.assert(
    fc.property(fc.array(ruleArb, { minLength: 1, maxLength: 8 }), (rules) => {
      const elements = egressElements("slot", { allow: [], deny: rules });
      for (const packet of packets) {
        const hits = elements.filter(({ set, value }) => !set.endsWith("_ifaces") && holds(value, packet));
        assert.equal(hits.length > 0, named(rules, packet));
        assert.equal(new Set(hits.map(({ set }) => set)).size, hits.length, "members of a set overlap");
      }
    }),
    { numRuns: 150 },
  );
});

test("a policy that says nothing has no members", () => {
  assert.deepEqual(egressElements("slot", { allow: [], deny: [] }), []);
});

const guest = { v4: "100.64.0.5", v6: "fd12:3456:789a:1:0:7:0:3" };
const domain = (name: string, rest: Partial<EgressRule> = {}): EgressRule => ({
  target: { kind: "domain", domain: name },
  ...rest,
});
const block = (cidr: string): EgressRule => ({
  target: { kind: "block", family: cidr.includes(":") ? 6 : 4, cidr },
});
const everywhere = [block("0.0.0.0/0"), block("::/0")];

test("the members of an answer expire with it, within limits, and are of names that are allowed only", () => {
  const policy: EgressPolicy = { allow: [domain("example.com")], deny: everywhere };
  const told = (name: string, ttlSeconds: number) =>
    nameElements(guest, policy, { name, addresses: [{ address: "192.0.2.1", family: 4, ttlSeconds }] });
  assert.deepEqual(told("Example.com.", 300), [
    { set: "egress_resolved_v4", value: "100.64.0.5 . 192.0.2.1", seconds: 300 },
  ]);
  assert.equal(told("example.com", 0)[0]?.seconds, 60);
  assert.equal(told("example.com", 1e9)[0]?.seconds, 86_400);
  assert.deepEqual(told("www.example.com", 300), []);
  assert.ok(covers("*.example.com", "a.b.example.com"));
  assert.ok(!covers("*.example.com", "example.com"));
});

test("an address of IPv6 is the guest's at its own, and a port is part of the member", () => {
  const rule = domain("*.example.com", { protocol: "udp", ports: { from: 53, to: 53 } });
  const addresses = [{ address: "2001:db8::9", family: 6, ttlSeconds: 90 }] as const;
  assert.deepEqual(
    nameElements(guest, { allow: [rule], deny: everywhere }, { name: "a.example.com", addresses }),
    [
      {
        set: "egress_resolved_ports_v6",
        value: "fd12:3456:789a:1:0:7:0:3 . 2001:db8::9 . udp . 53",
        seconds: 90,
      },
    ],
  );
});

test("a name is asked for by whoever may reach some address by its number, or is allowed the name", () => {
  const closed: EgressPolicy = { allow: [domain("*.example.com")], deny: everywhere };
  assert.ok(mayAsk(closed, "a.example.com"));
  assert.ok(!mayAsk(closed, "secret.evil.test"));
  assert.ok(!mayAsk({ allow: [], deny: everywhere }, "example.com"));
  assert.ok(mayAsk({ ...closed, allow: [...closed.allow, block("192.0.2.0/24")] }, "evil.test"));
  for (const open of everywhere) assert.ok(mayAsk({ ...closed, deny: [open] }, "evil.test"));
  const ports: EgressRule[] = everywhere.map((rule) => ({ ...rule, protocol: "tcp" }));
  assert.ok(mayAsk({ ...closed, deny: ports }, "evil.test"));
});

test("names matter only to a policy that denies something and allows some of them", () => {
  assert.ok(heedsNames({ allow: [domain("example.com")], deny: everywhere }));
  assert.ok(!heedsNames({ allow: [domain("example.com")], deny: [] }));
  assert.ok(!heedsNames({ allow: [block("192.0.2.0/24")], deny: everywhere }));
});
