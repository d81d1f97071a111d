import assert from "node:assert/strict";
import { test } from "node:test";
import { factKeys } from "@hearth/machine";
import { type FactWish, machineId, memoryReplica, webService } from "../testing/facts.ts";
import { findTarget } from "./find-target.ts";
import { parseHost } from "./host-name.ts";
import { RouteTable } from "./route-table.ts";

const domain = "example.test";
const id = machineId(1);

function tableOf(...wishes: FactWish[]) {
  const memory = memoryReplica();
  for (const wish of wishes) memory.put({ services: [webService(8080)], ...wish });
  const table = new RouteTable(memory.replica);
  const states = (host: string, publicPort = 80) =>
    findTarget(table, { host, domain, publicPort })?.places.map(({ endpoint }) => endpoint.state);
  return { ...memory, table, states };
}

test("an app is found by its name, from the first facts and from later ones", () => {
  const { put, set, states } = tableOf({});
  assert.deepEqual(states("web.example.test"), ["ready"]);
  put({ id: machineId(2), services: [webService(8080)], state: "stopped" });
  assert.deepEqual(states("web.example.test"), ["ready", "asleep"]);
  set(factKeys.machine("n1", id), undefined);
  assert.deepEqual(states("web.example.test"), ["asleep"]);
  put({ id: machineId(2), services: [webService(8080)], state: "destroyed" });
  assert.equal(states("web.example.test"), undefined);
});

test("a machine is found by its id and a port of its services, and by no other port", () => {
  const { states } = tableOf({
    services: [webService(8080), { internal_port: 22, ports: [{ port: 2222 }] }],
  });
  assert.deepEqual(states(`8080-${id}.example.test`), ["ready"]);
  assert.equal(states(`9090-${id}.example.test`), undefined);
  assert.equal(states(`22-${id}.example.test`), undefined, "raw TCP is not served as HTTP");
  assert.equal(states(`8080-${machineId(9)}.example.test`), undefined);
});

test("only names one label below the domain are names of apps", () => {
  const { states } = tableOf({});
  for (const host of ["example.test", "a.web.example.test", "web.other.test", "web", ".example.test"])
    assert.equal(states(host), undefined, host);
});

test("a host is read as RFC 9110 has it", () => {
  assert.equal(parseHost("Web.Example.Test.:8080"), "web.example.test");
  for (const bad of [
    "",
    "a b",
    "a,b",
    "a/b",
    "a@b",
    "[::1]",
    "a:b",
    "a..b",
    "a:123456",
    "-a",
    "a\u0000",
    "ü.de",
  ])
    assert.equal(parseHost(bad), undefined, bad);
});

test("a machine takes traffic only while it is started and its checks pass", () => {
  const checks = (status: string) => [{ name: "servicecheck-00-http-8080", status }];
  const cases: readonly [FactWish, string][] = [
    [{ state: "starting" }, "waking"],
    [{ state: "stopping" }, "leaving"],
    [{ state: "replacing" }, "waking"],
    [{ state: "failed" }, "away"],
    [{ state: "suspended" }, "asleep"],
    [{ checks: checks("passing") }, "ready"],
    [{ checks: checks("warning") }, "waking"],
    [{ checks: checks("critical") }, "away"],
    [{ cordoned: true }, "away"],
    [
      {
        checks: [{ name: "mine", status: "critical" }],
        config: { checks: { mine: { type: "tcp", kind: "informational" } } },
      },
      "ready",
    ],
  ];
  for (const [wish, state] of cases)
    assert.deepEqual(tableOf(wish).states("web.example.test"), [state], JSON.stringify(wish));
});

test("a node that speaks for another node's machine makes no route", () => {
  const { set, table } = tableOf({});
  const stolen = { ...(tableOf({}).replica.get(factKeys.machine("n1", id))?.value as object), app: "bank" };
  set(factKeys.machine("n2", id), stolen);
  assert.deepEqual([...table.ofApp("bank")], []);
  assert.equal(table.machine(id)?.app, "web");
});

test("of a machine that was moved, what the old node says is no route", () => {
  const { put, set, table } = tableOf({});
  put({ node: "n2", state: "starting", services: [webService(8080)] });
  assert.equal(table.machine(id)?.nodeId, "n1", "the one that was known first");
  set(factKeys.placement(id), { machine_id: id, node_id: "n2", state: "moving" });
  assert.deepEqual([table.machine(id)?.nodeId, table.machine(id)?.state], ["n2", "waking"]);
  set(factKeys.machine("n2", id), undefined);
  set(factKeys.placement(id), { machine_id: id, node_id: "n2", state: "moved" });
  assert.equal(table.machine(id), undefined);
});

test("whoever watches is told which app has changed", () => {
  const { put, table } = tableOf({});
  const heard: string[] = [];
  using _watching = table.watch((app) => heard.push(app));
  put({ state: "stopped", services: [webService(8080)] });
  assert.deepEqual(heard, ["web"]);
});

test("a hundred thousand machines are held, and services that are the same are kept once", () => {
  const { put, table } = tableOf();
  for (let number = 0; number < 100_000; number += 1)
    put({ id: machineId(number), app: `app-${number % 1000}`, services: [webService(8080)] });
  assert.equal(table.size, 100_000);
  const [one, two] = [...table.ofApp("app-7")];
  assert.equal([...table.ofApp("app-7")].length, 100);
  assert.equal(one?.services, two?.services);
});
