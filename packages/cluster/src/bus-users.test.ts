/** What the real server refuses to a node that speaks for others, and what it lets through. */
import assert from "node:assert/strict";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { HearthError } from "@hearth/errors";
import { jetstreamManager } from "@nats-io/jetstream";
import { type Bus, connectBus } from "./bus.ts";
import { apiIdentity, apiUser, nodeUser } from "./bus-users.ts";
import { ensureUserKey } from "./credentials.ts";
import { FactStore } from "./facts.ts";
import type { NatsServerConfig } from "./nats-config.ts";
import { NatsServer } from "./nats-server.ts";
import { Replica } from "./replica.ts";
import { ensureStateStream, stateStream } from "./state-stream.ts";
import { openStream, serveStreams } from "./stream-open.ts";
import { freePort } from "./test-server.ts";

const is = (code: string) => (error: unknown) => error instanceof HearthError && error.code === code;
const timeoutMs = 5_000;

interface Region extends AsyncDisposable {
  readonly dir: string;
  readonly server: NatsServer;
  readonly config: NatsServerConfig;
  readonly keeper: Bus;
  readonly api: Bus;
  readonly n1: Bus;
  readonly n2: Bus;
  /** What the server refused to n1, by subject. */
  readonly refused: string[];
}

async function startRegion(): Promise<Region> {
  const dir = await mkdtemp(join(tmpdir(), "hearth-bus-"));
  const seed = (name: string) => join(dir, `${name}.seed`);
  const config = {
    dir,
    port: await freePort(),
    users: [
      apiUser("n1", ensureUserKey(seed("api"))),
      nodeUser("n1", ensureUserKey(seed("n1"))),
      nodeUser("n2", ensureUserKey(seed("n2"))),
    ],
    keepers: [ensureUserKey(seed("keeper"))],
  };
  const server = new NatsServer(config);
  await server.start();
  const refused: string[] = [];
  const connect = (name: string, identity: string) =>
    connectBus({
      servers: server.url,
      seedPath: seed(name),
      identity,
      reconnectWaitMs: 50,
      onRefused: ({ details }) => name === "n1" && refused.push(String(details?.subject)),
    });
  const [keeper, api, n1, n2] = await Promise.all([
    connect("keeper", "keeper"),
    connect("api", apiIdentity("n1")),
    connect("n1", "n1"),
    connect("n2", "n2"),
  ]);
  await ensureStateStream(await jetstreamManager(keeper.connection), 1);
  return {
    dir,
    server,
    config,
    keeper,
    api,
    n1,
    n2,
    refused,
    async [Symbol.asyncDispose]() {
      await Promise.all([keeper, api, n1, n2].map((bus) => bus.close()));
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

let region: Region;
before(async () => {
  region = await startRegion();
});
after(() => region[Symbol.asyncDispose]());

const stored = async (key: string): Promise<unknown> => {
  const manager = await jetstreamManager(region.keeper.connection);
  return (await manager.streams.getMessage(stateStream, { last_by_subj: `state.${key}` }))?.json();
};

test("a node says its own facts and no other's, and the API no node's", async () => {
  const facts = new FactStore({ bus: region.n1 });
  await facts.publish("machine.n1.m1", { n: 1 });
  await facts.publish("node.n1", { n: 1 });
  await facts.compareAndSet("lease.n1", { n: 1 }, 0);
  await facts.publish("mesh.n1", { n: 1 });
  for (const key of [
    "machine.n2.m1",
    "node.n2",
    "lease.n2",
    "mesh.n2",
    "mesh-epoch.wanted",
    "app.web",
    "node-key.n1",
    "node-policy.n1",
    "hostname.www.example.test",
    "acme.www.example.test",
    "acme-account.ab",
    "certificate-secret.region",
  ])
    await assert.rejects(facts.publish(key, {}), is("bus_refused"), key);
  const api = new FactStore({ bus: region.api });
  await api.publish("app.web", { n: 2 });
  await api.publish("node-key.n2", { n: 2 });
  await api.publish("lease.n1", { n: 2 });
  await api.publish("mesh-epoch.wanted", { n: 2 });
  for (const key of ["machine.n1.m1", "node.n1", "mesh.n1"])
    await assert.rejects(api.publish(key, {}), is("bus_refused"), key);
  assert.deepEqual(await stored("machine.n1.m1"), { n: 1 });
  assert.ok(region.refused.includes("state.machine.n2.m1"), "the refusal is told, so that it can be logged");
});

test("a copy of the state follows with the rights of a node", async () => {
  await using replica = new Replica({ bus: region.n2, path: join(region.dir, "r.db"), checkMs: 20 });
  replica.start();
  const revision = await new FactStore({ bus: region.api }).publish("app.seen", { n: 3 });
  await replica.waitForRevision("app.seen", revision, { timeoutMs });
  assert.deepEqual(replica.get("app.seen")?.value, { n: 3 });
});

test("a node cannot destroy, empty, change or shorten the stream", async () => {
  await new FactStore({ bus: region.api }).publish("app.stays", { n: 1 });
  for (const bus of [region.n1, region.api]) {
    for (const verb of ["DELETE", "PURGE", "UPDATE", "CREATE", "MSG.DELETE", "SNAPSHOT"]) {
      const asked = bus.connection.request(`$JS.API.STREAM.${verb}.${stateStream}`, "{}", {
        timeout: timeoutMs,
      });
      await assert.rejects(asked, /permission/i, verb);
    }
  }
  assert.deepEqual(await stored("app.stays"), { n: 1 });
});

test("a node answers its own commands and hears no other's", async () => {
  await using _serving = region.n1.serve("n1", "worker", { ping: () => "pong" });
  await region.n1.flush();
  assert.equal(await region.api.request("n1", "worker", "ping", null, { timeoutMs }), "pong");
  assert.equal(await region.n1.request("n1", "worker", "ping", null, { timeoutMs }), "pong");
  await assert.rejects(region.n2.request("n1", "worker", "ping", null, { timeoutMs }), is("bus_refused"));
  await using _other = region.n1.serve("n2", "worker", { ping: () => "forged" });
  await assert.rejects(region.n1.flush(), is("bus_refused"));
  await assert.rejects(region.api.request("n2", "worker", "ping", null, { timeoutMs }), is("unavailable"));
});

test("a node may have another's worker wake a machine, and nothing else", async () => {
  const pong = () => "pong";
  await using _worker = region.n1.serve("n1", "worker", { wake: pong, start: pong, stop: pong });
  await using _door = region.n1.serve("n1", "ingress", { used: pong, health: pong });
  await region.n1.flush();
  const ask = (service: string, command: string) =>
    region.n2.request("n1", service, command, null, { timeoutMs });
  assert.equal(await ask("worker", "wake"), "pong");
  assert.equal(await ask("ingress", "used"), "pong");
  for (const command of ["start", "stop"])
    await assert.rejects(ask("worker", command), is("bus_refused"), command);
  await assert.rejects(ask("ingress", "health"), is("bus_refused"));
});

test("a node hears no inbox but its own, and answers only what was asked of it", async () => {
  for (const inbox of ["_INBOX.>", "_INBOX.n2.>", "_INBOX.api-n1.>", "stream.n2.>", ">"]) {
    region.n1.connection.subscribe(inbox, { callback: () => undefined });
    await assert.rejects(region.n1.flush(), is("bus_refused"), inbox);
  }
  region.refused.length = 0;
  region.n1.connection.publish("_INBOX.api-n1.n2.guessed", "forged");
  await region.n1.flush();
  assert.deepEqual(region.refused, ["_INBOX.api-n1.n2.guessed"]);
});

test("what the server sends for a node to where the node may not is no fact and no command", async () => {
  await new FactStore({ bus: region.n1 }).publish("machine.n1.m9", { machine_id: "m9" });
  await new FactStore({ bus: region.n2 }).publish("machine.n2.m9", { true: true });
  let commands = 0;
  await using _serving = region.n2.serve("n2", "worker", {
    destroy: () => {
      commands += 1;
    },
  });
  await region.n2.flush();
  const { connection } = region.n1;
  const manager = await jetstreamManager(connection);
  const { name } = await manager.consumers.add(stateStream, {
    name: "mine",
    filter_subject: "state.machine.n1.m9",
    inactive_threshold: 5_000_000_000,
  });
  for (const reply of ["state.machine.n2.m9", "cmd.n2.worker.destroy"]) {
    connection.publish("state.machine.n1.m9", "{}", { reply });
    connection.publish(`$JS.API.STREAM.INFO.${stateStream}`, "", { reply });
    connection.publish(`$JS.API.STREAM.MSG.GET.${stateStream}`, '{"last_by_subj":"state.machine.n1.m9"}', {
      reply,
    });
    connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${stateStream}.${name}`, "1", { reply });
  }
  await manager.consumers
    .add(stateStream, { durable_name: "pushed", deliver_subject: "cmd.n2.worker.destroy" })
    .catch(() => undefined);
  // Its answer comes after all that was sent before, on each side.
  await connection.request(`$JS.API.STREAM.INFO.${stateStream}`, "", { timeout: timeoutMs });
  await region.api.request("n2", "worker", "absent", null, { timeoutMs }).catch(() => undefined);
  assert.deepEqual(await stored("machine.n2.m9"), { true: true });
  assert.equal(commands, 0);
});

test("streams run between the API and a node, and another node has no part in them", async () => {
  await using _serving = serveStreams(
    region.n1,
    { nodeId: "n1", service: "worker" },
    {
      echo: async (stream) => {
        for await (const message of stream) await stream.write(message);
      },
    },
  );
  await region.n1.flush();
  const target = { nodeId: "n1", service: "worker", command: "echo" };
  for (const bus of [region.api, region.n1]) {
    await using stream = await openStream(bus, target, null, { timeoutMs });
    await stream.write(Buffer.from("hello"));
    assert.equal(Buffer.from((await stream.read()) ?? []).toString(), "hello");
    await stream.end();
  }
  await assert.rejects(openStream(region.n2, target, null, { timeoutMs }), is("bus_refused"));
});

test("a key that is taken off the list is out at once, and the others notice nothing", async () => {
  const { server, config, dir } = region;
  const path = join(dir, "late.seed");
  const late = nodeUser("late", ensureUserKey(path));
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const options = { servers: server.url, seedPath: path, identity: "late" };
  await assert.rejects(connectBus(options), is("bus_unauthorized"));
  const users = config.users ?? [];
  const giveUp = new AbortController();
  const joining = connectBus({ ...options, retryUntil: giveUp.signal, reconnectWaitMs: 20 });
  await server.reload({ ...config, users: [...users, late] });
  await using bus = await joining;
  await new FactStore({ bus }).publish("node.late", {});
  let drops = 0;
  void (async () => {
    for await (const { type } of region.n1.connection.status()) if (type === "disconnect") drops += 1;
  })();
  const out = new Promise<void>((resolve) => {
    void (async () => {
      for await (const { type } of bus.connection.status()) if (type === "disconnect") return resolve();
    })();
  });
  await server.reload(config);
  await out;
  await assert.rejects(new FactStore({ bus, timeoutMs: 500 }).publish("node.late", {}));
  await new FactStore({ bus: region.n1 }).publish("node.n1", { n: 2 });
  assert.equal(drops, 0);
});
