import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { factKeys } from "@hearth/machine";
import { type DnsFixture, startDns } from "./testing/dns-fixture.ts";
import { machineId } from "./testing/machine-fact.ts";

const skip = process.getuid?.() === 0 ? false : "needs root for addresses on the loopback";
const limit = { skip, timeout: 60_000 };
let dns: DnsFixture;
let guest: string;
let stranger: string;

before(async () => {
  if (skip !== false) return;
  dns = await startDns();
  guest = dns.guest(7, 2);
  stranger = dns.guest(8, 2);
});
after(async () => await dns?.[Symbol.asyncDispose]());

const app = (name: string, network: number) =>
  dns.facts.publish(factKeys.app(name), { ...{ id: name, name, org_slug: "o", network }, created_at_ms: 1 });

test("an app's name gives its started machines, and only in its own network", limit, async () => {
  await app("web", 7);
  const one = await dns.machine({ app: "web", machine: 16, network: 7 });
  const two = await dns.machine({ app: "web", machine: 17, network: 7 });
  await dns.machine({ app: "web", machine: 18, network: 7, state: "stopped" });
  const hidden = { dns: { skip_registration: true } };
  await dns.machine({ app: "web", machine: 19, network: 7, config: hidden });
  assert.deepEqual(await dns.short(guest, ["web.internal", "AAAA"], 2), [one, two].sort());
  assert.deepEqual(await dns.short(guest, [`${machineId(16)}.vm.web.internal`, "AAAA"]), [one]);
  assert.match(await dns.dig(guest, "web.internal", "A"), /NOERROR[\s\S]*ANSWER: 0[\s\S]*IN\s+SOA/);
  for (const name of ["web.internal", `${machineId(16)}.vm.web.internal`, "vm.web.internal"])
    assert.match(await dns.dig(stranger, name, "AAAA"), /status: NXDOMAIN[\s\S]*IN\s+SOA/, name);
  assert.deepEqual(await dns.short(stranger, ["-x", one]), []);
  assert.deepEqual(await dns.short(guest, ["-x", one]), [`${machineId(16)}.vm.web.internal.`]);
});

test("a machine that stops, or goes, leaves the answer, and comes back when it starts", limit, async () => {
  const wish = { app: "flaky", machine: 32, network: 7 } as const;
  await dns.machine(wish);
  await dns.short(guest, ["flaky.internal", "AAAA"], 1);
  await dns.machine({ ...wish, state: "stopping" });
  await dns.short(guest, ["flaky.internal", "AAAA"], 0);
  await dns.machine(wish);
  await dns.short(guest, ["flaky.internal", "AAAA"], 1);
  await dns.facts.delete(factKeys.machine("n1", machineId(32)));
  await dns.short(guest, ["flaky.internal", "AAAA"], 0);
});

test("names by region, process group and nearness", limit, async () => {
  const metadata = { fly_process_group: "worker" };
  const base = { app: "job", network: 7 } as const;
  const far = await dns.machine({ ...base, machine: 48, nodeId: "n3", host: 3, region: "there" });
  const near = await dns.machine({ ...base, machine: 49, nodeId: "n2", host: 2, config: { metadata } });
  const here = await dns.machine({ ...base, machine: 50 });
  await dns.short(guest, ["job.internal", "AAAA"], 3);
  assert.deepEqual(await dns.short(guest, ["there.job.internal", "AAAA"]), [far]);
  assert.deepEqual(await dns.short(guest, ["here.job.internal", "AAAA"]), [near, here].sort());
  assert.deepEqual(await dns.short(guest, ["worker.process.job.internal", "AAAA"]), [near]);
  assert.deepEqual(await dns.short(guest, ["top1.nearest.of.job.internal", "AAAA"]), [here]);
  assert.deepEqual(await dns.short(guest, ["top2.nearest.of.job.internal", "AAAA"]), [here, near].sort());
  assert.match(await dns.dig(guest, "top0.nearest.of.job.internal", "AAAA"), /status: NXDOMAIN/);
  assert.match(await dns.dig(guest, "other.process.job.internal", "AAAA"), /status: NXDOMAIN/);
  assert.match(await dns.dig(guest, "process.job.internal", "AAAA"), /status: NOERROR/);
});

test("a machine that moved, or whose node was fenced, is found where it is", limit, async () => {
  const base = { app: "mover", machine: 64, network: 7 } as const;
  const before = await dns.machine({ ...base, nodeId: "n2", host: 2 });
  assert.deepEqual(await dns.short(guest, ["mover.internal", "AAAA"], 1), [before]);
  await dns.facts.publish(factKeys.lease("n2"), { node_id: "n2", term: 2, state: "fenced", ttl_ms: 1 });
  await dns.short(guest, ["mover.internal", "AAAA"], 0);
  const placement = { machine_id: machineId(64), app: "mover", node_id: "n1", from_node_id: "n2" };
  await dns.facts.publish(factKeys.placement(machineId(64)), { ...placement, state: "moved", term: 2 });
  const now = await dns.machine(base);
  assert.deepEqual(await dns.short(guest, ["mover.internal", "AAAA"], 1), [now]);
  await dns.facts.publish(factKeys.lease("n2"), { node_id: "n2", term: 2, state: "held", ttl_ms: 1 });
  await dns.machine({ app: "mover-mark", machine: 65, network: 7, nodeId: "n2", host: 2 });
  await dns.short(guest, ["mover-mark.internal", "AAAA"], 1);
  assert.deepEqual(await dns.short(guest, ["mover.internal", "AAAA"]), [now]);
});

test("services are found by SRV, with the addresses beside them", limit, async () => {
  const services = [{ protocol: "tcp", internal_port: 8080, ports: [{ port: 80, handlers: ["http"] }] }];
  const address = await dns.machine({ app: "srv", machine: 80, network: 7, config: { services } });
  const target = `0 1 8080 ${machineId(80)}.vm.srv.internal.`;
  assert.deepEqual(await dns.short(guest, ["_http._tcp.srv.internal", "SRV"], 1), [target]);
  assert.deepEqual(await dns.short(guest, ["_8080._tcp.srv.internal", "SRV"]), [target]);
  assert.ok((await dns.dig(guest, "_http._tcp.srv.internal", "SRV")).includes(`AAAA\t${address}`));
  assert.match(await dns.dig(guest, "_8080._udp.srv.internal", "SRV"), /status: NXDOMAIN/);
});

test("the platform tells its apps, instances and API", limit, async () => {
  await app("listed", 9);
  const lister = dns.guest(9, 2);
  const address = await dns.machine({ app: "listed", machine: 96, network: 9 });
  await dns.facts.publish(factKeys.nodeKey("n1"), { node_id: "n1", api_url: "http://192.0.2.7:4280" });
  await dns.facts.publish(factKeys.nodeKey("n2"), { node_id: "n2", api_url: "http://[2001:db8::7]:4280" });
  await dns.short(lister, ["listed.internal", "AAAA"], 1);
  assert.deepEqual(await dns.short(lister, ["_apps.internal", "TXT"]), ['"listed"']);
  assert.deepEqual(await dns.short(lister, ["_instances.internal", "TXT"]), [
    `"instance=${machineId(96)},app=listed,ip=${address},region=here"`,
  ]);
  assert.deepEqual(await dns.short(lister, ["_api.internal", "A"], 1), ["192.0.2.7"]);
  assert.deepEqual(await dns.short(lister, ["_api.internal", "AAAA"], 1), ["2001:db8::7"]);
  assert.match(await dns.dig(lister, "_other.internal", "TXT"), /status: NXDOMAIN/);
});

test("the host sees the names of all networks", limit, async () => {
  const one = await dns.machine({ app: "seven", machine: 112, network: 7 });
  const two = await dns.machine({ app: "eight", machine: 113, network: 8 });
  assert.deepEqual(await dns.short(dns.address, ["seven.internal", "AAAA"], 1), [one]);
  assert.deepEqual(await dns.short(dns.address, ["eight.internal", "AAAA"], 1), [two]);
});
