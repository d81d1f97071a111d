/** From one server to three, and then the loss of each: real servers, as a region grows. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Bus, connectBus } from "./bus.ts";
import { apiUser, nodeUser } from "./bus-users.ts";
import { ensureUserKey } from "./credentials.ts";
import { FactStore } from "./facts.ts";
import type { NatsServerConfig } from "./nats-config.ts";
import { NatsServer } from "./nats-server.ts";
import { Replica } from "./replica.ts";
import { keepStateStream, restoreState, saveState, stateHealth, takesWrites } from "./state-keeper.ts";
import { freePort, startTestServer } from "./test-server.ts";
import { eventually } from "./testing/eventually.ts";

const limitMs = 60_000;

test("a region grows from one server to three with every revision, and loses any one of them", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "hearth-grow-"));
  const seed = (name: string) => join(dir, `${name}.seed`);
  const names = ["s1", "s2", "s3"];
  const users = [nodeUser("n1", ensureUserKey(seed("n1"))), apiUser("n1", ensureUserKey(seed("api")))];
  const keepers = [ensureUserKey(seed("keeper"))];
  const ports = new Map<string, { client: number; route: number }>();
  for (const name of names) ports.set(name, { client: await freePort(), route: await freePort() });
  const routes = [...ports.values()].map(({ route }) => `127.0.0.1:${route}`);
  const config = (name: string, clustered: boolean): NatsServerConfig => ({
    dir: join(dir, name),
    name,
    port: ports.get(name)?.client ?? 0,
    users,
    keepers,
    ...(clustered
      ? {
          store: "cluster",
          cluster: {
            name: "test",
            host: "127.0.0.1",
            port: ports.get(name)?.route ?? 0,
            routes,
            secret: "5ec2e7",
          },
        }
      : {}),
  });
  const servers = new Map<string, NatsServer>();
  const start = async (name: string, clustered: boolean): Promise<NatsServer> => {
    const server = new NatsServer(config(name, clustered));
    servers.set(name, server);
    await server.start();
    return server;
  };
  const buses: Bus[] = [];
  let replica: Replica | undefined;
  const connect = async (login: string, name: string, identity: string): Promise<Bus> => {
    const bus = await connectBus({
      servers: `nats://127.0.0.1:${ports.get(name)?.client}`,
      seedPath: seed(login),
      identity,
      reconnectWaitMs: 50,
    });
    buses.push(bus);
    return bus;
  };
  try {
    const alone = await start("s1", false);
    const keeper = await connect("keeper", "s1", "keeper");
    await keepStateStream(keeper, 1);
    const api = await connect("api", "s1", "api-n1");
    const facts = new FactStore({ bus: api, timeoutMs: 2_000 });
    let lost = 0;
    replica = new Replica({
      bus: api,
      path: join(dir, "replica.db"),
      checkMs: 50,
      retryMs: 50,
      onStreamLoss: (loss) => {
        lost += loss.lost;
      },
    });
    replica.start();
    for (let n = 0; n < 300; n += 1) await facts.publish(`app.a${n % 50}`, { n, pad: "x".repeat(2_000) });
    const revision = await facts.publish("app.last", { n: 1 });
    await replica.waitForRevision("app.last", revision, { timeoutMs: limitMs });

    const path = join(dir, "state");
    await saveState(keeper, path);
    await alone.stop();
    await start("s2", true);
    await start("s3", true);
    await start("s1", true);
    assert.equal(await eventually("restored", () => restoreState(keeper, path, 3)), true);
    assert.equal(await restoreState(keeper, path, 3), false, "once");
    await keepStateStream(keeper, 3);
    await eventually("three copies", async () =>
      (await stateHealth(keeper))?.current === 3 ? true : undefined,
    );
    const next = await eventually("a write", () => facts.compareAndSet("app.last", { n: 2 }, revision));
    await replica.waitForRevision("app.last", next, { timeoutMs: limitMs });
    assert.equal(replica.list("app.").length, 51);
    assert.equal(lost, 0, "to a copy of the state it is the same stream");

    let last = next;
    for (const name of names) {
      const leader = (await eventually("a leader", () => stateHealth(keeper)))?.leader;
      await servers.get(name)?.stop("SIGKILL");
      const other = await connect("api", names.find((each) => each !== name) ?? "", "api-n1");
      const writer = new FactStore({ bus: other, timeoutMs: 1_000 });
      const sinceMs = Date.now();
      last = await eventually("a write with two servers", () =>
        writer.compareAndSet("app.last", { name }, last),
      );
      t.diagnostic(
        `${name}${leader === name ? ", the leader," : ""} killed: ${Date.now() - sinceMs} ms to a write`,
      );
      await start(name, true);
      await eventually("three copies again", async () =>
        (await stateHealth(other))?.current === 3 ? true : undefined,
      );
    }
    await replica.waitForRevision("app.last", last, { timeoutMs: limitMs });
    assert.equal(replica.list("app.").length, 51);
    assert.equal(lost, 0);
  } finally {
    await replica?.stop();
    for (const bus of buses) await bus.close();
    for (const server of servers.values()) await server.stop("SIGKILL");
    await rm(dir, { recursive: true, force: true });
  }
});

test("whether writes are answered is tried by one that changes nothing", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  await facts.publish("node.n1", { n: 1 });
  assert.equal(await takesWrites(bus, "node.n1", 5_000), true);
  assert.equal(await takesWrites(bus, "node.n2", 5_000), true);
  assert.deepEqual((await facts.read("node.n1"))?.value, { n: 1 });
  assert.equal(await facts.read("node.n2"), undefined);
  await nats.server.stop("SIGKILL");
  assert.equal(await takesWrites(bus, "node.n1", 300), false);
});
