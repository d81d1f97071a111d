/** Members of egress policies that change in place, against the real kernel. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { parseClusterPrefix } from "./address-plan.ts";
import { type EgressElement, type EgressPolicy, type EgressRule, egressElements } from "./egress-plan.ts";
import { NetworkExecutor } from "./executor.ts";
import { listedElements } from "./inventory.ts";

const root = process.getuid?.() === 0;
const options = { skip: root ? false : "needs root for a network namespace" };
const namespace = `hth-test-${randomBytes(4).toString("hex")}`;
const node = "n1";
const slot = "hth0000one";
const executor = new NetworkExecutor({ namespace });

const rule = (cidr: string, rest: Partial<EgressRule> = {}): EgressRule => ({
  target: { kind: "block", family: cidr.includes(":") ? 6 : 4, cidr },
  ...rest,
});
const elementsOf = (policy: EgressPolicy, of = slot): EgressElement[] => egressElements(of, policy);
const texts = (elements: readonly EgressElement[]): string[] =>
  elements.map(({ set, value }) => `${set} ${value}`).sort();

/** What the kernel has of one slot, or of all. */
function listed(of?: string): string[] {
  const command = ["netns", "exec", namespace, "nft", "-j", "list", "table", "inet", `hearth_${node}`];
  const all = listedElements(JSON.parse(execFileSync("ip", command, { encoding: "utf8" })));
  return texts(all.filter(({ value }) => of === undefined || value.includes(`"${of}"`)) as EgressElement[]);
}

const other: EgressPolicy = { allow: [rule("203.0.113.0/24")], deny: [rule("0.0.0.0/0"), rule("::/0")] };

before(async () => {
  if (!root) return;
  execFileSync("ip", ["netns", "add", namespace]);
  const prefix = parseClusterPrefix("fd12:3456:789a::/48");
  await executor.applyNode({ node, prefix, meshInterfaces: [], hostServices: [] });
  await executor.addElements(node, elementsOf(other, "hth0000two"));
});
after(() => {
  executor.close();
  if (root) execFileSync("ip", ["netns", "del", namespace]);
});

test("the kernel lists members in the words in which the plan has them", options, async () => {
  const port = { protocol: "tcp", ports: { from: 443, to: 443 } } as const;
  const policy: EgressPolicy = {
    allow: [
      ...[rule("192.0.2.7/32"), rule("192.0.2.0/29", port), rule("198.51.100.0/25", { protocol: "udp" })],
      ...[rule("2001:db8::/33"), rule("2001:db8:1::1/128", port), rule("64:ff9b::c000:200/120")],
      ...[rule("192.0.2.64/26", { protocol: "udp", ports: { from: 1, to: 65_535 } })],
    ],
    deny: [rule("0.0.0.0/0"), rule("::/0"), rule("::/96", { protocol: "udp" })],
  };
  await executor.exchangeEgress({ node, slot, from: [], to: elementsOf(policy) });
  assert.deepEqual(listed(slot), texts(elementsOf(policy)));
  await executor.exchangeEgress({ node, slot, from: elementsOf(policy), to: [] });
  assert.deepEqual(listed(slot), []);
});

/** Blocks of one /29 and /125, so that members of two policies overlap often. */
const ruleArb = fc
  .record({
    family: fc.constantFrom(4, 6),
    cut: fc.integer({ min: 0, max: 3 }),
    offset: fc.nat(7),
    protocol: fc.constantFrom("tcp" as const, "udp" as const, undefined),
    ports: fc.option(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.nat(3))),
  })
  .map(({ family, cut, offset, protocol, ports }): EgressRule => {
    const start = offset - (offset % 2 ** cut);
    const cidr = family === 4 ? `203.0.113.${start}/${32 - cut}` : `2001:db8::${start}/${128 - cut}`;
    const range = protocol === undefined || ports === null ? undefined : ports;
    return rule(cidr, {
      ...(protocol === undefined ? {} : { protocol }),
      ...(range === undefined ? {} : { ports: { from: range[0], to: range[0] + range[1] } }),
    });
  });
const policyArb = fc.record({
  allow: fc.array(ruleArb, { maxLength: 4 }),
  deny: fc.array(ruleArb, { maxLength: 4 }),
});

test(
  "a policy takes the place of another whatever of both is there, and no other slot's",
  options,
  async () => {
    const state = fc.constantFrom("from", "to", "nothing");
    await fc.assert(
      fc.asyncProperty(...[policyArb, policyArb, state], async (before, next, there) => {
        const [from, to] = [elementsOf(before), elementsOf(next)];
        await executor.addElements(node, { from, to, nothing: [] }[there]);
        await executor.exchangeEgress({ node, slot, from, to });
        assert.deepEqual(listed(slot), texts(to));
        await executor.exchangeEgress({ node, slot, from: [], to: from, isUnsure: true });
        assert.deepEqual(listed(slot), texts(from));
        assert.deepEqual(listed("hth0000two"), texts(elementsOf(other, "hth0000two")));
        await executor.removeSlot({ node, slot, elements: [...from, ...to], egressUnsure: true });
        assert.deepEqual(listed(slot), []);
      }),
      { numRuns: 15, endOnFailure: true },
    );
  },
);

test(
  "a name's address has its time anew when it is told again, and is listed with what is left",
  options,
  async () => {
    const value = "100.64.0.5 . 203.0.113.1";
    const element = { set: "egress_resolved_v4", value } as const;
    await executor.allowNames(node, [{ ...element, seconds: 60 }]);
    await executor.allowNames(node, [{ ...element, seconds: 600 }]);
    const [told, ...more] = await executor.listNames(node);
    assert.deepEqual([told?.set, told?.value, more], [element.set, value, []]);
    assert.ok(told !== undefined && told.seconds > 500 && told.seconds <= 600);
    await executor.removeElements(node, [element]);
    await executor.removeElements(node, [element]);
    assert.deepEqual(await executor.listNames(node), []);
  },
);
