/** The front door and machines of other hosts. Its own host is n1. */
import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { factKeys } from "@hearth/machine";
import { startDoor } from "../testing/door.ts";
import { machineId, webService } from "../testing/facts.ts";

const web = [webService(80)];
/** No host has it: a connection is refused a way, or is never answered. */
const nowhere = "fd00:dead::1";
const limits = { connectMs: 300 };

const ask = (port: number) =>
  new Promise<{ status: number | undefined; reason: unknown; retry: unknown; body: string }>(
    (resolve, reject) => {
      const headers = { host: "web.example.test" };
      const asking = httpRequest({ port, host: "127.0.0.1", headers, agent: false });
      asking.on("error", reject).on("response", async (got) => {
        const { "hearth-reason": reason, "retry-after": retry } = got.headers;
        resolve({ status: got.statusCode, reason, retry, body: await text(got) });
      });
      asking.end();
    },
  );

test("a machine of another host serves where this host has none, and not where it has one", async () => {
  await using door = await startDoor();
  const far = { node: "n2", id: machineId(2) };
  await door.guest((_request, response) => response.end("far"), far);
  assert.equal((await ask(door.port)).body, "far");
  await door.guest((_request, response) => response.end("near"), { id: machineId(1) });
  assert.equal((await ask(door.port)).body, "near");
});

test("a machine of another host is woken by its own worker, and this host's before it", async () => {
  const woken: string[] = [];
  await using door = await startDoor({ startMachine: async (id, node) => void woken.push(`${node} ${id}`) });
  door.put({ node: "n2", id: machineId(2), state: "stopped", services: web });
  const answers = Array.from({ length: 100 }, () => ask(door.port));
  while (door.ingress.balancer.waitingFor("web") < 100) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(woken, [`n2 ${machineId(2)}`]);
  door.put({ node: "n2", id: machineId(2), state: "starting", services: web });
  await door.guest((_request, response) => response.end("awake"), { node: "n2", id: machineId(2) });
  assert.deepEqual(new Set((await Promise.all(answers)).map(({ body }) => body)), new Set(["awake"]));
  assert.equal(woken.length, 1);

  door.put({ node: "n2", id: machineId(2), state: "stopped", services: web });
  door.put({ node: "n1", id: machineId(3), state: "stopped", services: web });
  const last = ask(door.port);
  while (door.ingress.balancer.waitingFor("web") < 1) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(woken[1], `n1 ${machineId(3)}`);
  await door.guest((_request, response) => response.end("near"), { id: machineId(3) });
  assert.equal((await last).body, "near");
});

test("where one machine cannot be started, the next is, and only when none can it is said", async () => {
  const woken: string[] = [];
  await using door = await startDoor({
    startMachine: (id, node) => {
      woken.push(`${node} ${id}`);
      return Promise.reject(new Error("no room"));
    },
  });
  for (const [node, number] of [
    ["n1", 1],
    ["n2", 2],
  ] as const)
    door.put({ node, id: machineId(number), state: "stopped", services: web });
  assert.deepEqual(
    [(await ask(door.port)).reason, (await ask(door.port)).reason],
    ["wake_failed", "wake_failed"],
  );
  assert.deepEqual(woken, [`n1 ${machineId(1)}`, `n2 ${machineId(2)}`]);
});

test("after a host that does not answer, a machine of the next one is tried, and then first", async () => {
  await using door = await startDoor({ limits });
  for (const number of [1, 2, 3])
    door.put({ node: "n2", id: machineId(number), address: nowhere, services: web });
  await door.guest((_request, response) => response.end("there"), {
    ...{ node: "n3", id: machineId(9) },
  });
  for (let asked = 0; asked < 6; asked += 1) assert.equal((await ask(door.port)).body, "there");
  const attempts = door.events.map((event) => event.attempts ?? 0);
  assert.ok(
    attempts.every((count) => count <= 2),
    `${attempts}`,
  );
  assert.ok(attempts.filter((count) => count === 2).length <= 1, `${attempts}: it is asked once`);
});

test("what only a host has that does not answer is out of reach, and the answer says so and when to ask again", async () => {
  await using door = await startDoor({ limits });
  door.put({ node: "n2", id: machineId(2), address: nowhere, services: web });
  const { status, reason, retry, body } = await ask(door.port);
  assert.deepEqual([status, reason, retry], [503, "unreachable", "5"]);
  assert.doesNotMatch(body, /n2|0000|fd00/);
});

test("of a host that was fenced nothing is asked, its names stay known, and it serves again when it is back", async () => {
  await using door = await startDoor({ startMachine: async (id) => assert.fail(`started ${id}`) });
  await door.guest((_request, response) => response.end("far"), { node: "n2", id: machineId(2) });
  door.put({ node: "n2", id: machineId(3), state: "stopped", services: web });
  for (const [state, expected] of [
    ["fenced", 503],
    ["returning", 200],
    ["fenced", 503],
    ["held", 200],
  ] as const) {
    door.set(factKeys.lease("n2"), { node_id: "n2", state });
    const { status, reason } = await ask(door.port);
    assert.deepEqual([status, reason], expected === 200 ? [200, undefined] : [503, "unreachable"], state);
  }
  door.set(factKeys.nodePolicy("n2"), { node_id: "n2", removed: { at_ms: 1 } });
  assert.equal((await ask(door.port)).reason, "unknown_host", "a node that was removed has no machines");
});

test("a request that waits for a host that is lost meanwhile is answered, and tried elsewhere where there is one", async () => {
  await using door = await startDoor();
  let arrived: () => void = () => undefined;
  const arrival = () => new Promise<void>((resolve) => (arrived = resolve));
  const silent = await door.guest(() => arrived(), { node: "n2", id: machineId(2) });
  for (const [expected, reason] of [
    [503, "unreachable"],
    [200, undefined],
  ] as const) {
    const waiting = arrival();
    const answer = ask(door.port);
    await waiting;
    if (expected === 200)
      await door.guest((_request, response) => response.end("there"), { node: "n3", id: machineId(3) });
    door.set(factKeys.lease("n2"), { node_id: "n2", state: "fenced" });
    const got = await answer;
    assert.deepEqual([got.status, got.reason], [expected, reason]);
    door.set(factKeys.lease("n2"), { node_id: "n2", state: "held" });
  }
  silent.server.closeAllConnections();
});

test("a machine that its node does not name when it says all again is gone", async () => {
  await using door = await startDoor();
  await door.guest((_request, response) => response.end("far"), { node: "n2", id: machineId(2) });
  door.put({ node: "n3", id: machineId(3), services: web });
  door.set(factKeys.node("n2"), { node_id: "n2", restated: { stream: "s", revision: 3 } });
  assert.equal(door.ingress.table.machine(machineId(2)), undefined);
  assert.equal(door.ingress.table.machine(machineId(3))?.nodeId, "n3", "others' are left alone");
});
