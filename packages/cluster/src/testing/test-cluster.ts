/** Three real nats-servers that form a cluster with the state stream in three copies, for the tests of this package. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Bus, type BusOptions, connectBus } from "../bus.ts";
import { apiUser } from "../bus-users.ts";
import { ensureUserKey } from "../credentials.ts";
import type { NatsCluster } from "../nats-config.ts";
import { NatsServer, type NatsServerOptions } from "../nats-server.ts";
import { openOperatorDoor } from "../operator-door.ts";
import { keepStateStream, stateHealth } from "../state-keeper.ts";
import { freePort } from "../test-server.ts";

export interface TestCluster extends AsyncDisposable {
  readonly dir: string;
  readonly servers: ReadonlyMap<string, NatsServer>;
  /** Of one who may do everything with the stream. */
  readonly keeperLogin: BusOptions;
  /** As an API; closed with the cluster. */
  connect(server: string): Promise<Bus>;
  /** As the agent of the server's host, with the stream and with the servers; closed with the cluster. */
  agent(
    server: string,
    change?: Partial<NatsCluster>,
  ): Promise<{ readonly keeper: Bus; readonly operator: Bus }>;
  /** Of a server of the cluster, or of another one that is to be one. */
  config(server: string, change?: Partial<NatsCluster>): NatsServerOptions;
  /** Where the servers find each other. */
  route(server: string): string;
  /** Starts a server, in place of the one of that name. */
  start(server: string, change?: Partial<NatsCluster>): Promise<NatsServer>;
  /** The server that the stream is written through. */
  leader(): Promise<string>;
}

const limitMs = 60_000;

export async function startTestCluster(): Promise<TestCluster> {
  const dir = await mkdtemp(join(tmpdir(), "hearth-cluster-"));
  const seed = (name: string) => join(dir, `${name}.seed`);
  const login = {
    users: [apiUser("n1", ensureUserKey(seed("api")))],
    keepers: [ensureUserKey(seed("keeper"))],
  };
  const ports = new Map<string, { client: number; route: number }>();
  const first = ["s1", "s2", "s3"];
  for (const name of [...first, "s4"]) ports.set(name, { client: await freePort(), route: await freePort() });
  const route = (server: string): string => `127.0.0.1:${ports.get(server)?.route}`;
  const config = (name: string, change: Partial<NatsCluster> = {}): NatsServerOptions => {
    const own = ports.get(name);
    const routes = first.map(route);
    const cluster = { name: "test", host: "127.0.0.1", port: own?.route ?? 0, routes, secret: "5ec2e7" };
    const store = { store: "cluster", cluster: { ...cluster, ...change } };
    return { dir: join(dir, name), name, port: own?.client ?? 0, ...login, ...store };
  };
  const servers = new Map<string, NatsServer>();
  const buses: Bus[] = [];
  const connect = async (who: string, server: string, identity: string): Promise<Bus> => {
    const servers = `nats://127.0.0.1:${ports.get(server)?.client}`;
    const bus = await connectBus({ servers, seedPath: seed(who), identity, reconnectWaitMs: 50 });
    buses.push(bus);
    return bus;
  };
  const stop = async (): Promise<void> => {
    for (const door of doors) await door[Symbol.asyncDispose]();
    for (const bus of buses) await bus.close();
    for (const server of servers.values()) await server.stop("SIGKILL");
    await rm(dir, { recursive: true, force: true });
  };
  const start = async (name: string, change: Partial<NatsCluster> = {}): Promise<NatsServer> => {
    const server = new NatsServer(config(name, change));
    servers.set(name, server);
    await server.start();
    return server;
  };
  const doors: AsyncDisposable[] = [];
  const agent = async (server: string, change: Partial<NatsCluster> = {}) => {
    const { cluster } = config(server, change);
    if (cluster === undefined) throw new Error("it is one of a cluster");
    const key = { seedPath: seed("keeper"), key: ensureUserKey(seed("keeper")) };
    const place = { dir: join(dir, `${server}-door`), port: await freePort() };
    const door = await openOperatorDoor({ ...place, ...key, name: server, cluster });
    doors.push(door);
    return { keeper: await connect("keeper", server, "keeper"), operator: door.bus };
  };
  try {
    for (const name of first) await start(name);
    const keeper = await connect("keeper", "s1", "keeper");
    const health = async () => {
      await keepStateStream(keeper, 3);
      return await stateHealth(keeper);
    };
    const endMs = Date.now() + limitMs;
    for (;;) {
      const seen = await health().catch(() => undefined);
      if (seen?.current === 3 && seen.leader !== undefined) break;
      if (Date.now() > endMs) throw new Error("The cluster has no three copies of its stream.");
      await delay(50);
    }
    const leader = async () => String((await stateHealth(keeper))?.leader);
    const keeperLogin = {
      ...{
        servers: `nats://127.0.0.1:${ports.get("s1")?.client}`,
        seedPath: seed("keeper"),
        identity: "keeper",
      },
    };
    return {
      ...{ dir, servers, leader, keeperLogin, connect: (server) => connect("api", server, "api-n1") },
      ...{ agent, config, route, start },
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
