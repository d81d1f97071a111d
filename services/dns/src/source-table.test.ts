import assert from "node:assert/strict";
import { test } from "node:test";
import { formatMachineAddress, parseClusterPrefix } from "@hearth/network";
import { NameIndex } from "./name-index.ts";
import { SourceTable } from "./source-table.ts";
import { machineFact } from "./testing/machine-fact.ts";

const prefix = parseClusterPrefix("fd12:3456:789a::/48");
const limits = { queriesPerSecond: 10, burst: 3, inFlight: 1, tcpConnections: 1 };

function table() {
  const index = new NameIndex("n1");
  const clock = { ms: 0 };
  const own = new Set(["192.0.2.1", "fd12:3456:789a::3"]);
  const sources = new SourceTable({
    ...{ index, prefix, hostNumber: 1, hostAddresses: () => new Set(own), guestLimits: limits },
    monotonicMs: () => clock.ms,
  });
  return { index, sources, clock, own };
}

const address = (host: number, network: number): string =>
  formatMachineAddress({ prefix, host, network, machine: 2 });

test("a guest of this host is known by the network in its address, and nobody else is", () => {
  const { index, sources } = table();
  assert.equal(sources.find(address(1, 7))?.view, index.view(7));
  assert.equal(sources.find(address(2, 7)), undefined, "a guest of another host");
  assert.equal(sources.find(address(1, 0)), undefined, "the network of hosts");
  assert.equal(sources.find("fd99::1:0:7:0:2"), undefined, "another cluster");
  assert.equal(sources.find("fe80::1"), undefined);
  assert.equal(sources.find("fe80::1%tap0"), undefined, "as Node names who asks from an address of a link");
  assert.equal(sources.find("198.51.100.1"), undefined);
  assert.equal(sources.find("::ffff:192.0.2.9"), undefined);
  assert.equal(sources.find("192.0.2.1")?.view, index.host);
});

test("an IPv4 address is its guest's only while the guest has it", () => {
  const { index, sources } = table();
  const of = (wish: { network: number; machine: number; nodeId?: string }) => {
    const { key, fact } = machineFact(prefix, { app: "web", ...wish });
    return { key, revision: 1, value: { ...fact, egress_ip: "100.64.0.9" } };
  };
  index.take(of({ network: 7, machine: 16 }));
  assert.equal(sources.find("100.64.0.9")?.view, index.view(7));
  index.take({ ...of({ network: 7, machine: 16 }), value: undefined });
  assert.equal(sources.find("100.64.0.9"), undefined);
  index.take(of({ network: 8, machine: 17 }));
  assert.equal(sources.find("100.64.0.9")?.view, index.view(8));
  index.take({ ...of({ network: 8, machine: 17 }), value: undefined });
  index.take(of({ network: 8, machine: 18, nodeId: "n2" }));
  assert.equal(sources.find("100.64.0.9"), undefined, "what another host calls its guest by");
});

test("an address that the host has lost is the host's no more", () => {
  const { index, sources, clock, own } = table();
  assert.equal(sources.find("192.0.2.1")?.view, index.host);
  own.delete("192.0.2.1");
  clock.ms += 6_000;
  assert.equal(sources.find("192.0.2.1"), undefined);
  own.add("192.0.2.1");
  clock.ms += 1_000;
  assert.equal(sources.find("192.0.2.1")?.view, index.host);
});

test("a guest may ask so often, and again after a while; the host as often as it likes", () => {
  const { sources, clock } = table();
  const guest = sources.find(address(1, 7));
  const host = sources.find("192.0.2.1");
  assert.ok(guest !== undefined && host !== undefined);
  const asked = (count: number): number =>
    Array.from({ length: count }, () => sources.spend(guest)).filter((one) => one).length;
  assert.equal(asked(10), 3);
  clock.ms += 100;
  assert.equal(asked(10), 1);
  clock.ms += 60_000;
  assert.equal(asked(10), 3);
  assert.ok(Array.from({ length: 50_000 }, () => sources.spend(host)).every((one) => one));
});

test("who has been silent is forgotten when there are too many, and who waits for an answer is not", () => {
  const { sources } = table();
  const silent = sources.find(address(1, 1));
  const waiting = sources.find(address(1, 2));
  assert.ok(silent !== undefined && waiting !== undefined);
  waiting.inFlight = 1;
  for (let network = 3; network < 16_400; network += 1) sources.find(address(1, network));
  assert.deepEqual([sources.holds(silent), sources.holds(waiting)], [false, true]);
  assert.notEqual(sources.find(address(1, 1)), silent);
  assert.equal(sources.find(address(1, 2)), waiting);
});
