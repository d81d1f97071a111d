import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { covers, type EgressRule, egressElements, nameElements } from "./egress-plan.ts";

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
  const [from = 0, to = 0] = addresses
    .split("-")
    .map((one) => one.split(".").reduce((sum, part) => sum * 256 + Number(part), 0) - base);
  const [low = 0, high = 65_535] = (ports ?? "0-65535").split("-").map(Number);
  return (
    from <= at && at <= to && (proto === undefined || (proto === protocol && low <= port && port <= high))
  );
};

test("the members hold what the rules name and nothing else, each packet at most once a set", () => {
  fc.assert(
    fc.property(fc.array(ruleArb, { minLength: 1, maxLength: 8 }), (rules) => {
      const elements = egressElements("slot", { allow: [], deny: rules });
      for (const packet of packets) {
        const hits = elements.filter(({ set, value }) => set !== "egress_ifaces" && holds(value, packet));
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

test("the members of an answer expire with it, within limits, and are of names that are allowed only", () => {
  const policy = { allow: [{ target: { kind: "domain", domain: "example.com" } }], deny: [] } as const;
  const told = (name: string, ttlSeconds: number) =>
    nameElements("slot", policy, { name, addresses: [{ address: "192.0.2.1", family: 4, ttlSeconds }] });
  assert.deepEqual(told("Example.com.", 300), [
    { set: "egress_names_v4", value: '"slot" . 192.0.2.1 timeout 300s' },
  ]);
  assert.match(told("example.com", 0)[0]?.value ?? "", /timeout 60s$/);
  assert.match(told("example.com", 1e9)[0]?.value ?? "", /timeout 86400s$/);
  assert.deepEqual(told("www.example.com", 300), []);
  assert.ok(covers("*.example.com", "a.b.example.com"));
  assert.ok(!covers("*.example.com", "example.com"));
});
