/** The real service with more than one process. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, createServer, request as httpRequest, type RequestListener } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { promisify } from "node:util";
import { factKeys } from "@hearth/machine";
import { until } from "@hearth/testkit";
import { machineId, webService } from "../testing/facts.ts";
import { type IngressService, startIngressService } from "../testing/service.ts";

const run = promisify(execFile);
const domain = "example.test";
const host = `web.${domain}`;
const timeout = 90_000;

async function startGuest(listener: RequestListener) {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function ask(service: IngressService, agent?: Agent): Promise<{ status: number; body: string }> {
  const asked = httpRequest({ port: service.http, host: "127.0.0.1", headers: { host }, agent });
  asked.end();
  const [answer] = await once(asked, "response");
  return { status: answer.statusCode, body: await text(answer) };
}

const answered = (service: IngressService): Promise<true> =>
  until("the app answers", 20_000, async () => (await ask(service)).status === 200 || undefined);

/** Which processes have logged requests. */
const doorsIn = (service: IngressService): Set<unknown> =>
  new Set(service.log().flatMap((line) => (line.event === "request" ? [line.door ?? 0] : [])));

test("connections are shared by processes, one that dies is started again, and the others serve on", {
  timeout,
}, async () => {
  await using guest = await startGuest((_, response) => response.end("here"));
  await using service = await startIngressService({ domain, processes: 3 });
  await service.put({ address: "127.0.0.1", services: [webService(guest.port)] });
  await answered(service);
  const agents = Array.from({ length: 6 }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
  for (const agent of agents) assert.equal((await ask(service, agent)).body, "here");
  await until("all three have served", 10_000, async () => doorsIn(service).size === 3 || undefined);
  const [victim = 0] = service.doors();
  const counted = async (): Promise<number> => {
    const asked = httpRequest({ socketPath: service.metricsPath, path: "/metrics" }).end();
    const [answer] = await once(asked, "response");
    const found = /requests_total\{app="web",[^}]*code="2xx"\} (\d+)/.exec(await text(answer));
    return Number(found?.[1] ?? 0);
  };
  const logged = (): number => service.log().filter((line) => line.status === 200).length;
  await until(
    "all that is logged is counted",
    10_000,
    async () => (await counted()) === logged() || undefined,
  );
  const before = await counted();
  process.kill(victim, "SIGKILL");
  let served = 0;
  await until("it is started again", 30_000, async () => {
    assert.equal((await ask(service)).status, 200, "those that are left serve");
    served += 1;
    const now = service.doors();
    return (now.length === 2 && !now.includes(victim)) || undefined;
  });
  await service.serving(3);
  assert.ok(served > 0);
  assert.ok((await counted()) >= before + served, "what it had counted is counted still");
  for (const agent of agents) agent.destroy();
  assert.ok(service.log().some((line) => line.event === "door_ended" && line.signal === "SIGKILL"));
});

test("of a connection through a load balancer the process that serves it reads whose it is", {
  timeout,
}, async () => {
  await using guest = await startGuest((request, response) =>
    response.end(request.headers["x-forwarded-for"]),
  );
  await using service = await startIngressService({ domain, processes: 2, proxiedFrom: ["127.0.0.0/8"] });
  await service.put({ address: "127.0.0.1", services: [webService(guest.port)] });
  const asked = async (client: string) => {
    const socket = connect(service.http, "127.0.0.1").on("error", () => undefined);
    const answer = text(socket);
    // In pieces, so that each process waits for the end of it.
    socket.write(`PROXY TCP4 ${client} `);
    await new Promise((resolve) => setImmediate(resolve));
    socket.write(`192.0.2.1 1 80\r\nGET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    return await answer;
  };
  const answer = await until("the app answers", 20_000, async () => {
    const got = await asked("203.0.113.1");
    return got.startsWith("HTTP/1.1 200 ") ? got : undefined;
  });
  assert.match(answer, /\r\n203\.0\.113\.1$/);
  const clients = Array.from({ length: 6 }, (_, at) => `203.0.113.${10 + at}`);
  const answers = await Promise.all(clients.map(asked));
  for (const [at, each] of answers.entries()) assert.ok(each.endsWith(`\r\n${clients[at]}`), each);
  await until("both have served", 10_000, async () => doorsIn(service).size === 2 || undefined);
  const named = service.log().flatMap((line) => (line.event === "request" ? [line.client] : []));
  for (const client of clients) assert.ok(named.includes(client), client);
});

test("a challenge counts as shown when each process shows it", { timeout }, async () => {
  await using service = await startIngressService({ domain, processes: 2 });
  const hostname = "www.example.com";
  const question = { hostname, token: "token-1" };
  const shows = () => service.bus.request("n1", "ingress", "challenge", question, { timeoutMs: 10_000 });
  const asked = shows();
  const challenge = { type: "http-01", token: "token-1", key_authorization: "token-1.print" };
  await service.publish(factKeys.acme(hostname), { hostname, attempts_ms: [], order: { challenge } });
  assert.deepEqual(await asked, { shown: true });
  const path = "/.well-known/acme-challenge/token-1";
  const open = Array.from({ length: 6 }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
  for (const agent of open) {
    const to = { port: service.http, host: "127.0.0.1", path, headers: { host: hostname }, agent };
    const [answer] = await once(httpRequest(to).end(), "response");
    assert.equal(await text(answer), "token-1.print");
  }
  // One that hangs may show an authority something else.
  const [door = 0] = service.doors();
  process.kill(door, "SIGSTOP");
  try {
    assert.deepEqual(await shows(), { shown: false });
  } finally {
    process.kill(door, "SIGCONT");
  }
  assert.deepEqual(await shows(), { shown: true });
  for (const agent of open) agent.destroy();
});

test("requests under way end before the processes do, and no process is left", { timeout }, async () => {
  const begun = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  let count = 0;
  await using guest = await startGuest((request, response) => {
    if (request.url === "/") {
      response.end();
      return;
    }
    response.write("first ");
    count += 1;
    if (count === 2) begun.resolve();
    void release.promise.then(() => response.end("last"));
  });
  const service = await startIngressService({ domain, processes: 2 });
  try {
    await service.put({ address: "127.0.0.1", services: [webService(guest.port)] });
    await answered(service);
    const [door = 0] = service.doors();
    const slow = Array.from({ length: 2 }, async () => {
      const asked = httpRequest({ port: service.http, host: "127.0.0.1", path: "/slow", headers: { host } });
      asked.end();
      const [answer] = await once(asked, "response");
      return await text(answer);
    });
    await begun.promise;
    const exited = once(service.process, "exit");
    service.process.kill("SIGTERM");
    await until("no port is open any more", 5_000, async () => {
      const socket = connect({ port: service.http, host: "127.0.0.1" });
      const refused = await once(socket, "connect").then(
        () => false,
        () => true,
      );
      socket.destroy();
      return refused || undefined;
    });
    release.resolve();
    assert.deepEqual(await Promise.all(slow), ["first last", "first last"]);
    assert.deepEqual(await exited, [0, null]);
    assert.throws(() => process.kill(door, 0), { code: "ESRCH" });
  } finally {
    await service[Symbol.asyncDispose]();
  }
});

test("when the first process is killed, those beside it go as well, and the ports are free", {
  timeout,
}, async () => {
  const service = await startIngressService({ domain, processes: 2 });
  try {
    const [door = 0] = service.doors();
    service.process.kill("SIGKILL");
    await until("the other has gone", 15_000, async () => {
      try {
        process.kill(door, 0);
        return undefined;
      } catch {
        return true;
      }
    });
    const server = createTcpServer().listen(service.http, "127.0.0.1");
    await once(server, "listening");
    server.close();
  } finally {
    await service[Symbol.asyncDispose]();
  }
});

test("one start wakes an app, whichever processes its requests came to", { timeout }, async () => {
  await using guest = await startGuest((_, response) => response.end("awake"));
  const started: unknown[] = [];
  const services = [webService(guest.port, { autostart: true })];
  const service = await startIngressService({
    domain,
    processes: 2,
    worker: {
      wake: (payload) => {
        started.push(payload);
        return {};
      },
    },
  });
  try {
    const asleep = [1, 2, 3].map((number) => ({ id: machineId(number), state: "stopped", services }));
    await service.putAll(asleep.map((wish) => ({ ...wish, address: "127.0.0.1" })));
    await until("the routes are there", 20_000, async () => {
      const probe = await fetchStatus(service);
      return probe !== 404 || undefined;
    });
    const waiting = Array.from({ length: 8 }, () => ask(service, new Agent({ maxSockets: 1 })));
    await until("both processes wake it", 10_000, async () => {
      const wakes = service.log().filter(({ event }) => event === "wake");
      return new Set(wakes.map(({ door }) => door ?? 0)).size === 2 || undefined;
    });
    await until("a start was asked for", 10_000, async () => started.length > 0 || undefined);
    const { machine_id: id } = started[0] as { readonly machine_id: string };
    await service.put({ id, state: "starting", address: "127.0.0.1", services });
    await service.put({ id, state: "started", address: "127.0.0.1", services });
    for (const { body } of await Promise.all(waiting)) assert.equal(body, "awake");
    assert.deepEqual(started, [{ machine_id: id }]);
    await until("both have served", 10_000, async () => doorsIn(service).size === 2 || undefined);
  } finally {
    await service[Symbol.asyncDispose]();
  }
});

/** Of a request that is not waited for: it breaks off when there is a route. */
async function fetchStatus(service: IngressService): Promise<number> {
  const asked = httpRequest({ port: service.http, host: "127.0.0.1", headers: { host } });
  asked.end();
  const [first] = await Promise.race([
    once(asked, "response").then(([answer]) => {
      answer.resume();
      return [answer.statusCode as number];
    }),
    // A route that sleeps keeps its request waiting.
    new Promise<[number]>((resolve) => setTimeout(() => resolve([0]), 300)),
  ]);
  asked.on("error", () => undefined);
  asked.destroy();
  return first ?? 0;
}

test("a hard limit holds for what all processes have at a machine", { timeout }, async () => {
  const held: (() => void)[] = [];
  let most = 0;
  let now = 0;
  await using guest = await startGuest((request, response) => {
    if (request.url !== "/hold") {
      response.end("ok");
      return;
    }
    now += 1;
    most = Math.max(most, now);
    held.push(() => {
      now -= 1;
      response.end("held");
    });
  });
  const concurrency = { type: "requests", soft_limit: 2, hard_limit: 2 };
  await using service = await startIngressService({ domain, processes: 2 });
  await service.put({ address: "127.0.0.1", services: [webService(guest.port, { concurrency })] });
  await answered(service);
  const hold = async (): Promise<string> => {
    const asked = httpRequest({ port: service.http, host: "127.0.0.1", path: "/hold", headers: { host } });
    asked.end();
    const [answer] = await once(asked, "response");
    return await text(answer);
  };
  const asked = [hold()];
  // One after another, each by another process, and each known to all before the next.
  await until("the first is held", 10_000, async () => held.length === 1 || undefined);
  asked.push(hold());
  await until("the second is held", 10_000, async () => held.length === 2 || undefined);
  await until("the limit is known to both", 10_000, async () => {
    const probes = Array.from({ length: 2 }, () => probe(service));
    return (await Promise.all(probes)).every((answer) => answer === "waits") || undefined;
  });
  for (let more = 0; more < 4; more += 1) asked.push(hold());
  while (asked.length > 0) {
    await until("one is held", 10_000, async () => held.length > 0 || undefined);
    held.shift()?.();
    await Promise.race(asked.map((one, at) => one.then(() => at))).then((at) => asked.splice(at, 1));
  }
  assert.ok(most <= 4, `${most} at once: twice the limit is the bound, by two doors`);
});

/** Whether a request waits for room: it is answered at once where there is any. */
async function probe(service: IngressService): Promise<"waits" | "served"> {
  const asked = httpRequest({ port: service.http, host: "127.0.0.1", headers: { host } });
  asked.on("error", () => undefined);
  asked.end();
  const answered = once(asked, "response").then(() => "served" as const);
  const waits = new Promise<"waits">((resolve) => setTimeout(() => resolve("waits"), 500));
  const first = await Promise.race([answered, waits]).catch(() => "waits" as const);
  asked.destroy();
  return first;
}

test("one source's connections are limited however many processes serve them, and those that end make room", {
  timeout,
}, async () => {
  await using service = await startIngressService({ domain, processes: 2 });
  const open: Socket[] = [];
  const opened = async (): Promise<boolean> => {
    const socket = connect({ port: service.http, host: "127.0.0.1" });
    socket.on("error", () => undefined);
    socket.write("GET / HTTP/1.1\r\nhost: nobody\r\n\r\n");
    const first = await new Promise<boolean>((resolve) => {
      socket.once("data", () => resolve(true));
      socket.once("close", () => resolve(false));
    });
    if (first) open.push(socket);
    return first;
  };
  const limit = 2_000;
  for (let at = 0; at < limit; at += 100)
    await Promise.all(Array.from({ length: Math.min(100, limit - at) }, opened));
  assert.equal(open.length, limit);
  assert.equal(await opened(), false, "one too many");
  for (const socket of open.splice(0)) socket.destroy();
  await until("there is room for as many again", 30_000, async () => {
    const wanted = Math.min(100, limit - open.length);
    await Promise.all(Array.from({ length: wanted }, opened));
    return open.length === limit || undefined;
  });
  for (const socket of open) socket.destroy();
});

test("a session of TLS that one process began is taken up by another, and every line of the log is whole", {
  timeout,
}, async () => {
  await using guest = await startGuest((_, response) => response.end("secret"));
  await using service = await startIngressService({ domain, processes: 2 });
  await service.put({ address: "127.0.0.1", services: [webService(guest.port)] });
  await answered(service);
  const dir = await mkdtemp(join(tmpdir(), "hearth-session-"));
  try {
    const session = join(dir, "session");
    const client = (...more: string[]) => {
      const line = `printf 'GET / HTTP/1.1\\r\\nHost: ${host}\\r\\nConnection: close\\r\\n\\r\\n' | timeout 20 openssl s_client -connect 127.0.0.1:${service.https} -servername ${host} -ign_eof -CAfile ${service.caPath} ${more.join(" ")}`;
      return run("sh", ["-c", line]);
    };
    await client("-sess_out", session);
    const before = service.log().length;
    for (let turn = 0; turn < 6; turn += 1)
      assert.match((await client("-sess_in", session)).stdout, /^Reused, TLSv1.3/m);
    await until(
      "the requests are in the log",
      10_000,
      async () => service.log().length >= before + 6 || undefined,
    );
    await until("both have served", 10_000, async () => doorsIn(service).size === 2 || undefined);
  } finally {
    await rm(dir, { recursive: true });
  }
});
