/** Egress policies against real packets, in both families, with 1,000 machines present. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { nameElements } from "./egress-names.ts";
import { type EgressPolicy, type EgressRule, egressElements } from "./egress-plan.ts";
import { type Guest, ip, PacketHost } from "./testing/packet-host.ts";
import { type Talker, talkerPort } from "./testing/talker.ts";

const root = process.getuid?.() === 0;
const options = { skip: root ? false : "needs root for network namespaces" };
const [one4, two4, one6, two6] = ["198.51.100.2", "198.51.100.3", "2001:db8::2", "2001:db8::3"] as const;
const all = [one4, two4, one6, two6];

let host: PacketHost;
let onHost: Talker;
let outside: Talker;
let [a, b] = [] as unknown as [Guest, Guest];
before(async () => {
  if (!root) return;
  host = new PacketHost();
  await host.applyNode();
  await host.crowd(1_000);
  const world = host.space("world");
  ip("-n", host.name, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", world);
  ip("-n", host.name, "link", "set", "up0", "up");
  ip("-n", world, "link", "set", "eth0", "up");
  ip("-n", host.name, "addr", "add", "198.51.100.1/24", "dev", "up0");
  ip("-n", host.name, "addr", "add", "2001:db8::1/64", "dev", "up0", "nodad");
  for (const address of [one4, two4]) ip("-n", world, "addr", "add", `${address}/24`, "dev", "eth0");
  for (const address of [one6, two6]) ip("-n", world, "addr", "add", `${address}/64`, "dev", "eth0", "nodad");
  ip("-n", world, "route", "add", "default", "via", "2001:db8::1");
  a = await host.guest(2, 7);
  b = await host.guest(3, 7);
  ip("-n", world, "addr", "add", "10.9.9.9/32", "dev", "eth0");
  ip("-n", host.name, "route", "add", "default", "via", one4);
  outside = await host.talker(world);
  onHost = await host.talker(host.name);
  // The link's own addresses are tentative for a second or two, and nobody answers for their neighbours until then.
  const limit = AbortSignal.timeout(10_000);
  for (const guest of [a, b])
    while ((await reached(guest)).length < all.length)
      if (limit.aborted) throw new Error("the world is not reached without a policy");
});
after(async () => host?.[Symbol.asyncDispose]());

const rule = (cidr: string, rest: Partial<EgressRule> = {}): EgressRule => ({
  target: { kind: "block", family: cidr.includes(":") ? 6 : 4, cidr },
  ...rest,
});
const everywhere = [rule("0.0.0.0/0"), rule("::/0")];
const port = (from: number, to = from): Partial<EgressRule> => ({ protocol: "tcp", ports: { from, to } });

/** Which of the world's addresses a guest reaches. */
async function reached(guest: Guest): Promise<string[]> {
  const answers = await Promise.all(all.map((address) => guest.talker.reaches(address)));
  return all.filter((_, index) => answers[index]);
}

async function under(policy: EgressPolicy, check: () => Promise<void>): Promise<void> {
  const elements = egressElements(a.plan.slot, policy);
  await host.executor.addElements(host.node, elements);
  try {
    await check();
  } finally {
    await host.executor.removeElements(host.node, elements);
  }
  assert.deepEqual(await reached(a), all);
}

const cases: readonly (readonly [name: string, policy: EgressPolicy, expected: readonly string[]])[] = [
  [
    "denied blocks are not reached",
    { allow: [], deny: [rule(`${one4}/32`), rule(`${one6}/128`)] },
    [two4, two6],
  ],
  [
    "an allow wins over a deny",
    { allow: [rule(`${one4}/32`), rule(`${two6}/128`)], deny: everywhere },
    [one4, two6],
  ],
  [
    "a port is allowed where all is denied, and another port is not",
    {
      allow: [
        rule(`${one4}/32`, port(talkerPort)),
        rule(`${one6}/128`, port(1, 6999)),
        rule(`${two6}/128`, port(7000, 7001)),
      ],
      deny: everywhere,
    },
    [one4, two6],
  ],
  [
    "a port is denied",
    { allow: [], deny: [rule("0.0.0.0/0", port(talkerPort)), rule("::/0", port(80))] },
    [one6, two6],
  ],
  ["a protocol is not another", { allow: [rule("0.0.0.0/0", { protocol: "udp" })], deny: everywhere }, []],
  [
    "what overlaps is one policy",
    {
      allow: [
        ...[rule("198.51.100.0/24", port(1, 7000)), rule(`${one4}/32`, port(6000, 8000))],
        ...[rule("2001:db8::/32"), rule("2001:db8::/64"), rule(`${one6}/128`)],
      ],
      deny: [...everywhere, rule("198.51.100.0/24"), rule(`${one4}/32`)],
    },
    all,
  ],
];
for (const [name, policy, expected] of cases)
  test(`${name}; its neighbour is not concerned`, options, () =>
    under(policy, async () => {
      assert.deepEqual(await reached(a), expected);
      assert.deepEqual(await reached(b), all);
    }),
  );

test("an allow does not open what no guest may reach", options, async () => {
  assert.ok(await onHost.reaches("10.9.9.9"));
  await under({ allow: [rule("10.9.9.0/24"), ...everywhere], deny: [] }, async () => {
    assert.ok(!(await a.talker.reaches("10.9.9.9")));
  });
});

test("a domain is reached at the addresses that the resolver has told, at its port", options, async () => {
  const domain: EgressRule = { target: { kind: "domain", domain: "*.example.com" }, ...port(talkerPort) };
  const policy = { allow: [domain], deny: everywhere };
  await under(policy, async () => {
    assert.deepEqual(await reached(a), []);
    const addresses = [
      { address: one4, family: 4, ttlSeconds: 5 },
      { address: two6, family: 6, ttlSeconds: 5 },
    ] as const;
    const told = nameElements(a, policy, { name: "www.Example.com.", addresses });
    await host.executor.allowNames(host.node, told);
    assert.deepEqual(await reached(a), [one4, two6]);
    // A policy that has no names any more does not wait for the resolver to take them back.
    const from = egressElements(a.plan.slot, policy);
    const closed = egressElements(a.plan.slot, { ...policy, allow: [] });
    await host.executor.exchangeEgress({ node: host.node, slot: a.plan.slot, from, to: closed });
    assert.deepEqual(await reached(a), []);
    await host.executor.exchangeEgress({ node: host.node, slot: a.plan.slot, from: closed, to: from });
    assert.deepEqual(await reached(a), [one4, two6]);
    await host.executor.removeElements(host.node, told);
    assert.deepEqual(await reached(a), []);
    assert.deepEqual(nameElements(a, policy, { name: "example.com", addresses }), []);
    assert.deepEqual(nameElements(a, policy, { name: "www.badexample.com", addresses }), []);
  });
});

test(
  "nothing goes out where all is denied: no datagram, of neither family, to no port",
  options,
  async () => {
    const closed: EgressPolicy = { allow: [], deny: everywhere };
    await under(closed, async () => {
      assert.deepEqual(await reached(a), []);
      for (const address of all) await a.talker.send(address, `kept ${address}`);
      for (const address of all) {
        await b.talker.send(address, `sent ${address}`);
        assert.ok(!(await outside.heardBefore(`kept ${address}`, `sent ${address}`)), address);
      }
    });
  },
);

test("datagrams are allowed by protocol and port, in both families", options, async () => {
  const udp = (from: number): Partial<EgressRule> => ({ protocol: "udp", ports: { from, to: from } });
  const allow = [rule(`${one4}/32`, udp(talkerPort)), rule(`${one6}/128`, udp(talkerPort))];
  const others = [rule(`${two4}/32`, udp(talkerPort + 1)), rule(`${two6}/128`, port(talkerPort))];
  await under({ allow: [...allow, ...others], deny: everywhere }, async () => {
    for (const address of all) await a.talker.send(address, `a to ${address}`);
    for (const address of all) await b.talker.send(address, `b to ${address}`);
    const heard = await Promise.all(
      all.map((address) => outside.heardBefore(`a to ${address}`, `b to ${address}`)),
    );
    assert.deepEqual(
      all.filter((_, index) => heard[index]),
      [one4, one6],
    );
    assert.deepEqual(await reached(a), [two6]);
  });
});

test(
  "what is within is not the world: the network and the host are as near under any policy",
  options,
  async () => {
    await under({ allow: [], deny: everywhere }, async () => {
      assert.ok(await a.talker.reaches(b.v6));
      assert.ok(await b.talker.reaches(a.v6));
      await a.talker.send(b.v6, "within");
      await b.talker.send(a.v6, "back");
      assert.ok(await b.talker.heardBefore("within", "within"));
      assert.ok(await a.talker.heardBefore("back", "back"));
    });
  },
);
