/** What is opened to whom by names, against a firewall that remembers what it was told. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AppFact, type EgressPolicyInput, factKeys } from "@hearth/machine";
import { type NameElement, parseClusterPrefix } from "@hearth/network";
import { until } from "@hearth/testkit";
import dnsPacket from "dns-packet";
import { type EgressGuest, EgressGuests } from "./egress-guests.ts";
import { Metrics } from "./metrics.ts";
import { NameGate } from "./name-gate.ts";
import { machineFact } from "./testing/machine-fact.ts";

const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const closed = { allow_internet_access: false };

function setUp(network: EgressPolicyInput | undefined, maxPerGuest?: number) {
  const guests = new EgressGuests("n1");
  const open = new Map<string, NameElement>();
  const clock = { ms: 0 };
  const state = { refuses: false };
  const keyOf = ({ set, value }: { set: string; value: string }) => `${set} ${value}`;
  const metrics = new Metrics();
  const gate = new NameGate({
    ...{ nodeId: "n1", guests, metrics, logger: { warn: () => undefined }, monotonicMs: () => clock.ms },
    ...(maxPerGuest === undefined ? {} : { maxPerGuest }),
    network: {
      allowNames: async (_node, elements) => {
        if (state.refuses) throw new Error("the host refuses");
        for (const one of elements) open.set(keyOf(one), one);
      },
      listNames: async () => [...open.values()],
      removeElements: async (_node, elements) => {
        for (const one of elements) open.delete(keyOf(one));
      },
    },
  });
  const machine = (config: EgressPolicyInput | undefined, wish = {}) => {
    const network = config === undefined ? {} : { network: config };
    const { key, fact } = machineFact(prefix, {
      app: "web",
      machine: 2,
      network: 7,
      config: network,
      ...wish,
    });
    guests.take({ key, value: fact });
    return fact;
  };
  const fact = machine(network);
  const app = (policy: EgressPolicyInput) =>
    guests.take({ key: factKeys.app("web"), value: { egress: { policy, version: 1 } } as AppFact });
  return {
    gate,
    guests,
    open,
    clock,
    state,
    metrics,
    machine,
    app,
    v6: fact.record.private_ip,
    v4: fact.egress_ip,
  };
}

const answer = (...answers: dnsPacket.Answer[]): Buffer =>
  dnsPacket.encode({ type: "response", questions: [], answers });
const a = (name: string, data: string, ttl = 300) => ({ type: "A", name, data, ttl }) as const;
const asked = (verdict: "pass" | "refuse" | EgressGuest): EgressGuest => {
  assert.ok(typeof verdict === "object");
  return verdict;
};

test("the addresses of an allowed name are open when the answer goes, by way of its other names", async () => {
  const { gate, open, v6, v4 } = setUp({ ...closed, allowOut: ["*.example.com"] });
  const labels = ["www", "example", "com"];
  const guest = asked(gate.judge(v6, labels));
  const bytes = answer(
    { type: "CNAME", name: "WWW.example.com", data: "edge.cdn.test", ttl: 60 },
    a("edge.cdn.test", "192.0.2.1"),
    { type: "AAAA", name: "edge.cdn.test", data: "2001:db8::1", ttl: 90 },
    a("stranger.test", "192.0.2.66"),
  );
  assert.ok(await gate.open(guest, labels, bytes));
  assert.deepEqual(
    [...open.values()],
    [
      { set: "egress_resolved_v4", value: `${v4} . 192.0.2.1`, seconds: 300 },
      { set: "egress_resolved_v6", value: `${v6} . 2001:db8::1`, seconds: 90 },
    ],
  );
});

test("who may reach nothing by its number may ask for nothing else, and others may", () => {
  const { gate, v6, v4, machine, metrics } = setUp({ ...closed, allowOut: ["example.com"] });
  for (const address of [v6, v4]) {
    assert.equal(gate.judge(address, ["secret", "evil", "test"]), "refuse");
    assert.equal(gate.judge(address, ["www", "example", "com"]), "refuse");
    assert.equal(gate.judge(address, ["example.com"]), "refuse");
  }
  assert.equal(metrics.namesRefused, 6);
  machine({ ...closed, allowOut: ["192.0.2.0/24"] });
  assert.equal(gate.judge(v6, ["any", "test"]), "pass");
  machine(undefined);
  assert.equal(gate.judge(v6, ["any", "test"]), "pass");
});

test("an answer whose addresses could not be opened is withheld, and what is open is not opened again", async () => {
  const { gate, open, state, clock, metrics, v6 } = setUp({ ...closed, allowOut: ["example.com"] });
  const labels = ["example", "com"];
  const guest = asked(gate.judge(v6, labels));
  state.refuses = true;
  assert.ok(!(await gate.open(guest, labels, answer(a("example.com", "192.0.2.1")))));
  assert.equal(open.size, 0);
  state.refuses = false;
  for (const ms of [0, 10_000, 200_000]) {
    clock.ms = ms;
    assert.ok(await gate.open(guest, labels, answer(a("example.com", "192.0.2.1", 300 - ms / 1_000))));
  }
  assert.equal(metrics.namesOpened, 1);
  clock.ms = 290_000;
  await gate.open(guest, labels, answer(a("example.com", "192.0.2.1", 300)));
  assert.equal(metrics.namesOpened, 2);
});

test("what is open to one guest is bounded, and what would expire first goes first", async () => {
  const { gate, open, v6 } = setUp({ ...closed, allowOut: ["example.com"] }, 2);
  const labels = ["example", "com"];
  const guest = asked(gate.judge(v6, labels));
  for (const [last, ttl] of [
    [1, 100],
    [2, 900],
    [3, 500],
  ] as const)
    await gate.open(guest, labels, answer(a("example.com", `192.0.2.${last}`, ttl)));
  assert.deepEqual(
    [...open.values()].map(({ value }) => value.split(" . ")[1]),
    ["192.0.2.2", "192.0.2.3"],
  );
});

test("what a policy does not allow any more is closed, what it allows stays, and a machine that goes leaves nothing", async () => {
  const { gate, open, machine, app, v6 } = setUp(undefined);
  app({ ...closed, allowOut: ["example.com", "example.org"] });
  for (const end of ["com", "org"]) {
    const guest = asked(gate.judge(v6, ["example", end]));
    await gate.open(
      guest,
      ["example", end],
      answer(a(`example.${end}`, end === "com" ? "192.0.2.1" : "192.0.2.2")),
    );
  }
  assert.equal(open.size, 2);
  app({ ...closed, allowOut: ["example.org"] });
  await until("the one is closed", 5_000, async () => open.size === 1 || undefined);
  assert.match([...open.keys()][0] ?? "", /192\.0\.2\.2/);
  machine(undefined, { state: "destroyed" });
  await until("nothing is open", 5_000, async () => open.size === 0 || undefined);
  await gate.stop();
});

test("a process that starts keeps what is open to its guests, and closes what is nobody's", async () => {
  const { gate, open, v4 } = setUp({ ...closed, allowOut: ["example.com"] });
  for (const source of [v4, "100.64.9.9"]) {
    const element = { set: "egress_resolved_v4", value: `${source} . 192.0.2.1`, seconds: 50 } as const;
    open.set(`${element.set} ${element.value}`, element);
  }
  await gate.start();
  assert.deepEqual([...open.keys()], [`egress_resolved_v4 ${v4} . 192.0.2.1`]);
});
