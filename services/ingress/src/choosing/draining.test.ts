/** What becomes of requests when the machine that serves them, or is to serve them, goes or is replaced. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, type ServerResponse } from "node:http";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { ask, begin } from "../testing/client.ts";
import { startDoor } from "../testing/door.ts";
import { machineId, webService } from "../testing/facts.ts";

/** No end of an idle connection but by the door, at its word. */
const keeps = { guestKeepAliveMs: 60_000 };

const one = { id: machineId(1), address: "127.0.0.1" };
const two = { id: machineId(2), address: "127.0.0.2" };

for (const state of ["stopping", "replacing", "starting", "destroying"])
  test(`a machine that becomes ${state} has no idle connection of the door any more`, async () => {
    await using door = await startDoor({ limits: keeps });
    const { server, internal } = await door.guest((_, response) => response.end("one"), one);
    server.keepAliveTimeout = 0;
    const connected = once(server, "connection");
    assert.equal((await ask(door.port)).body, "one");
    const [connection] = await connected;
    const closed = once(connection, "close", { signal: AbortSignal.timeout(10_000) });
    door.put({ ...one, services: [webService(internal)], state });
    await closed;
  });

test("a request that is under way at a machine that leaves is answered whole, and its connection goes with it", async () => {
  await using door = await startDoor({ limits: keeps });
  const held = Promise.withResolvers<ServerResponse>();
  const { server, internal } = await door.guest((_, response) => {
    response.write("first ");
    held.resolve(response);
  }, one);
  server.keepAliveTimeout = 0;
  const connected = once(server, "connection");
  const under = begin(door.port);
  under.asking.end();
  const answer = await under.answer;
  const [connection] = await connected;
  const closed = once(connection, "close", { signal: AbortSignal.timeout(10_000) });
  const response = await held.promise;
  await door.guest((_, other) => other.end("two"), two);
  door.put({ ...one, services: [webService(internal)], state: "stopping" });
  for (let turn = 0; turn < 4; turn += 1) assert.equal((await ask(door.port)).body, "two");
  assert.equal(connection.destroyed, false, "what is under way goes on");
  response.end("and last");
  assert.equal(await text(answer), "first and last");
  await closed;
});

test("machines that are replaced one after the other lose no request of clients that keep their connections", async () => {
  await using door = await startDoor();
  const guests = [];
  for (const wish of [one, two]) {
    const { internal } = await door.guest((_, response) => response.end("whole"), wish);
    guests.push({ ...wish, services: [webService(internal)] });
  }
  const agent = new Agent({ keepAlive: true });
  const states = ["replacing", "starting", "started"];
  let sent = 0;
  for (const guest of guests)
    for (const state of states) {
      const asked = Array.from({ length: 16 }, () => ask(door.port, { agent, method: "POST" }, "x"));
      door.put({ ...guest, state });
      for (const { status, body } of await Promise.all(asked)) {
        assert.deepEqual([status, body], [200, "whole"]);
        sent += 1;
      }
    }
  agent.destroy();
  assert.equal(sent, 96);
});

test("requests for the only machine wait while it is replaced, and no more of them than may", async () => {
  await using door = await startDoor({ limits: { waiting: 2 } });
  const { internal } = await door.guest((_, response) => response.end("new"), one);
  const fact = { ...one, services: [webService(internal)] };
  door.put({ ...fact, state: "replacing" });
  const waiting = [ask(door.port), ask(door.port, { method: "POST" }, "x")];
  while (door.ingress.balancer.waitingFor("web") < 2) await new Promise((resolve) => setImmediate(resolve));
  const refused = await ask(door.port);
  assert.deepEqual([refused.status, refused.headers["hearth-reason"]], [503, "too_many_waiting"]);
  door.put({ ...fact, state: "starting" });
  door.put({ ...fact, state: "started" });
  for (const { status, body } of await Promise.all(waiting)) assert.deepEqual([status, body], [200, "new"]);
  const { wait_ms, why_waited } = await door.event(({ wait_ms = 0 }) => wait_ms > 0);
  assert.ok(wait_ms !== undefined && wait_ms > 0);
  assert.equal(why_waited, "waking");
});
