import assert from "node:assert/strict";
import { createServer, request as httpRequest } from "node:http";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { endpointOf, servicesOf } from "../routes/endpoint.ts";
import { closedPort, startDoor } from "../testing/door.ts";
import { factOf, machineId, webService } from "../testing/facts.ts";
import { idlePlace } from "./autostop.ts";
import { choosePlace, type LoadedPlace } from "./choose-place.ts";

interface PlaceWish {
  readonly id: number;
  readonly active?: number;
  readonly node?: string;
  readonly state?: string;
  readonly service?: object;
  readonly busyMs?: number;
  readonly avoidUntilMs?: number;
}

function placeOf({
  id,
  active = 0,
  node = "n1",
  state = "started",
  busyMs = 0,
  avoidUntilMs = 0,
  service,
}: PlaceWish): LoadedPlace {
  const fact = factOf({ id: machineId(id), node, state, services: [webService(80, service)] });
  const services = servicesOf(fact.record.config);
  const [first] = services;
  assert.ok(first);
  return {
    endpoint: { ...endpointOf(fact), services, factRevision: 1 },
    service: first,
    load: { active, avoidUntilMs, busyMs, draining: false, readyMs: undefined },
  };
}

const choose = (places: readonly LoadedPlace[], turn = 0, tried: readonly string[] = []) => {
  const found = choosePlace(places, {
    nodeId: "n1",
    nowMs: 100,
    tried: new Set(tried),
    turn,
  });
  return found && Number.parseInt(found.endpoint.id, 16);
};
const concurrency = (soft_limit: number, hard_limit: number) => ({
  concurrency: { type: "requests", soft_limit, hard_limit },
});

test("the least loaded machine is chosen, this host's first, and equals take turns", () => {
  assert.equal(choose([placeOf({ id: 1, active: 3 }), placeOf({ id: 2, active: 2 })]), 2);
  assert.equal(choose([placeOf({ id: 1, node: "n2" }), placeOf({ id: 2, active: 5 })]), 2);
  const equal = [1, 2, 3].map((id) => placeOf({ id }));
  assert.deepEqual(
    [0, 1, 2].map((turn) => choose(equal, turn)),
    [1, 2, 3],
  );
});

test("a machine above its soft limit comes after one that is not, and one at its hard limit takes nothing", () => {
  const full = placeOf({ id: 1, active: 4, service: concurrency(2, 4) });
  const busy = placeOf({ id: 2, active: 2, service: concurrency(2, 4) });
  const far = placeOf({ id: 3, node: "n2", active: 1, service: concurrency(2, 4) });
  assert.equal(choose([full, busy, far]), 3);
  assert.equal(choose([full, busy]), 2);
  assert.equal(choose([full]), undefined);
});

test("what others have at a machine counts as what this process has", () => {
  const others = { of: (id: string) => (id === machineId(1) ? 4 : 0) };
  const chosen = (places: readonly LoadedPlace[]) => {
    const context = { nodeId: "n1", nowMs: 100, tried: new Set<string>(), turn: 0, others };
    return choosePlace(places, context)?.endpoint.id;
  };
  const limits = concurrency(5, 6);
  assert.equal(chosen([placeOf({ id: 1 }), placeOf({ id: 2, active: 3 })]), machineId(2));
  const far = placeOf({ id: 2, node: "n2", active: 1, service: limits });
  assert.equal(chosen([placeOf({ id: 1, service: limits }), far]), machineId(1), "below its soft limit");
  assert.equal(chosen([placeOf({ id: 1, active: 1, service: limits }), far]), machineId(2));
  assert.equal(chosen([placeOf({ id: 1, active: 2, service: limits })]), undefined, "at its hard limit");
  const stop = { nodeId: "n1", nowMs: 1_000, idleMs: 500, others };
  assert.equal(idlePlace([placeOf({ id: 1, service: { autostop: "stop" } })], stop), undefined);
});

test("a machine that was tried is not tried again, and one that failed just now comes last", () => {
  const failed = placeOf({ id: 1, avoidUntilMs: 200 });
  const busy = placeOf({ id: 2, active: 30 });
  assert.equal(choose([failed, busy]), 2);
  assert.equal(choose([failed, busy], 0, [machineId(2)]), 1);
  assert.equal(
    choose([placeOf({ id: 1, state: "stopped" }), placeOf({ id: 2, state: "stopping" })]),
    undefined,
  );
});

test("a machine is idle when all of it was, for long enough, and enough others run", () => {
  const rule = { nodeId: "n1", nowMs: 1_000, idleMs: 500 };
  const stop = { autostop: "stop" };
  const idle = (places: readonly LoadedPlace[]) => idlePlace(places, rule)?.endpoint.id;
  assert.equal(idle([placeOf({ id: 1, service: stop })]), machineId(1));
  assert.equal(idle([placeOf({ id: 1 })]), undefined, "unless it says so, it is kept");
  assert.equal(idle([placeOf({ id: 1, service: stop, active: 1 })]), undefined);
  assert.equal(idle([placeOf({ id: 1, service: stop, busyMs: 600 })]), undefined);
  assert.equal(idle([placeOf({ id: 1, service: stop, node: "n2" })]), undefined, "its own host sees to it");
  const one = { ...stop, min_machines_running: 1 };
  assert.equal(idle([placeOf({ id: 1, service: one })]), undefined);
  assert.equal(
    idle([placeOf({ id: 1, service: one }), placeOf({ id: 2, service: one, state: "stopped" })]),
    undefined,
  );
  assert.equal(
    idle([placeOf({ id: 1, service: one }), placeOf({ id: 2, service: one, active: 1 })]),
    machineId(1),
  );
});

const ask = (port: number) =>
  new Promise<{ status: number | undefined; reason: unknown; body: string }>((resolve, reject) => {
    const asking = httpRequest({
      port,
      host: "127.0.0.1",
      headers: { host: "web.example.test" },
      agent: false,
    });
    asking.on("error", reject).on("response", async (got) => {
      resolve({ status: got.statusCode, reason: got.headers["hearth-reason"], body: await text(got) });
    });
    asking.end();
  });

test("a thousand requests for a machine that sleeps start it once, and all are answered", async () => {
  const started: string[] = [];
  let asked: () => void = () => undefined;
  const wanted = new Promise<void>((resolve) => {
    asked = resolve;
  });
  await using door = await startDoor({
    startMachine: async (id) => {
      started.push(id);
      asked();
    },
  });
  const { internal } = await door.guest((_request, response) => response.end("awake"), { state: "stopped" });
  const answers = Promise.all(Array.from({ length: 1_000 }, () => ask(door.port)));
  await wanted;
  while (door.ingress.balancer.waitingFor("web") < 1_000)
    await new Promise((resolve) => setImmediate(resolve));
  const services = [webService(internal)];
  door.put({ state: "starting", address: "127.0.0.1", services });
  door.put({ state: "started", address: "127.0.0.1", services, checks: [{ name: "a", status: "warning" }] });
  door.put({ state: "started", address: "127.0.0.1", services, checks: [{ name: "a", status: "passing" }] });
  assert.deepEqual(
    new Set((await answers).map(({ status, body }) => `${status} ${body}`)),
    new Set(["200 awake"]),
  );
  assert.deepEqual(started, [machineId(1)]);
  assert.ok(door.events.some(({ wait_ms = 0 }) => wait_ms > 0));
});

test("a start that fails is told to all who wait, and is not tried again for each of them", async () => {
  let starts = 0;
  await using door = await startDoor({
    startMachine: () => {
      starts += 1;
      return Promise.reject(new Error("no room"));
    },
  });
  door.put({ state: "stopped", services: [webService(80)] });
  const answers = await Promise.all([ask(door.port), ask(door.port), ask(door.port)]);
  for (const { status, reason, body } of answers) {
    assert.deepEqual([status, reason], [503, "wake_failed"]);
    assert.doesNotMatch(body, /no room|0000/);
  }
  assert.equal((await ask(door.port)).reason, "wake_failed");
  assert.equal(starts, 1);
  assert.match(door.events[0]?.why ?? "", /internal/);
});

test("a machine that stops again before it was ready is a start that failed", async () => {
  let begun: () => void = () => undefined;
  const wanted = new Promise<void>((resolve) => {
    begun = resolve;
  });
  let starts = 0;
  await using door = await startDoor({
    startMachine: async () => {
      starts += 1;
      begun();
    },
  });
  const services = [webService(80)];
  door.put({ state: "stopped", services });
  const answer = ask(door.port);
  await wanted;
  door.put({ state: "starting", services });
  door.put({ state: "stopped", services });
  assert.equal((await answer).reason, "wake_failed");
  assert.equal(starts, 1);
});

test("a machine that wants no autostart is not started", async () => {
  await using door = await startDoor({ startMachine: async (id) => assert.fail(`started ${id}`) });
  for (const wish of [
    { services: [webService(80, { autostart: false })] },
    { services: [webService(80)], config: { disable_machine_autostart: true } },
  ]) {
    door.put({ state: "stopped", ...wish });
    assert.equal((await ask(door.port)).reason, "no_machine");
    door.put({ ...wish, state: "destroyed" });
  }
});

test("requests beyond the hard limit wait in order for a place, and not for ever", async () => {
  await using door = await startDoor({ limits: { waitMs: 300, waiting: 2 } });
  const held: { end: (text: string) => void }[] = [];
  let arrived: () => void = () => undefined;
  let arrival = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  await door.guest(
    (_request, response) => {
      held.push(response);
      arrived();
    },
    { service: concurrency(1, 1) },
  );
  const first = ask(door.port);
  await arrival;
  arrival = new Promise((resolve) => {
    arrived = resolve;
  });
  const second = ask(door.port);
  while (door.ingress.balancer.waitingFor("web") < 1) await new Promise((resolve) => setImmediate(resolve));
  held[0]?.end("one");
  assert.equal((await first).body, "one");
  await arrival;
  const late = [ask(door.port), ask(door.port), ask(door.port)];
  const reasons = (await Promise.all(late)).map(({ reason }) => reason).sort();
  assert.deepEqual(reasons, ["overloaded", "overloaded", "too_many_waiting"]);
  held[1]?.end("two");
  assert.equal((await second).body, "two");
});

test("while a machine stops, a request waits for it to be asleep, and wakes it", async () => {
  const started: string[] = [];
  await using door = await startDoor({ startMachine: async (id) => void started.push(id) });
  const { internal } = await door.guest((_request, response) => response.end("back"), { state: "stopping" });
  const services = [webService(internal)];
  const answer = ask(door.port);
  while (door.ingress.balancer.waitingFor("web") < 1) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(started, []);
  door.put({ state: "stopped", address: "127.0.0.1", services });
  assert.deepEqual(started, [machineId(1)]);
  door.put({ state: "started", address: "127.0.0.1", services });
  assert.equal((await answer).body, "back");
});

test("a machine that was just started and does not listen yet is tried until it does, with the whole body", async () => {
  await using door = await startDoor({ limits: { settleMs: 10_000, settleRetryMs: 10 } });
  const port = await closedPort();
  door.put({ address: "127.0.0.1", services: [webService(port)] });
  const answer = new Promise<string>((resolve, reject) => {
    const asking = httpRequest({
      port: door.port,
      host: "127.0.0.1",
      method: "POST",
      headers: { host: "web.example.test" },
    });
    asking.on("error", reject).on("response", async (got) => resolve(await text(got)));
    asking.end("body");
  });
  const place = () => door.ingress.loadOf(machineId(1), port);
  while (place().avoidUntilMs === 0) await new Promise((resolve) => setImmediate(resolve));
  const guest = createServer(async (request, response) => response.end(`late ${await text(request)}`));
  guest.listen(port, "127.0.0.1");
  assert.equal(await answer, "late body");
  guest.closeAllConnections();
  guest.close();
});
