/**
 * A way into the account that is the servers' own, for as long as it is needed: a server without a store that takes part
 * in the cluster, on this host alone, and lets in the one key. The servers of the bus themselves have no users in that
 * account. With some, a server that reads its configuration again, as it does whenever a host comes or goes, may have no
 * answers any more from a server that starts after that (rfd 0006).
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Bus, connectBus } from "./bus.ts";
import { doorName, serverGroup } from "./bus-servers.ts";
import type { NatsCluster } from "./nats-config.ts";
import { NatsServer, type NatsServerOptions } from "./nats-server.ts";

export interface OperatorDoorOptions extends Pick<NatsServerOptions, "dir" | "port" | "environment"> {
  /** Of the server whose host this is. */
  readonly name: string;
  readonly cluster: Pick<NatsCluster, "name" | "secret" | "routes">;
  readonly seedPath: string;
  /** The public part of that key. */
  readonly key: string;
}

export interface OperatorDoor extends AsyncDisposable {
  readonly bus: Bus;
}

const routesLimitMs = 4_000;
const lookEveryMs = 50;
/** The servers would greet it at the address that it comes from, and does not listen at. */
const quietAddress = "127.0.0.254";
/** What nats-server takes for any port that is free. */
const anyPort = -1;

/** Resolves when it is connected with who leads. @throws HearthError `unavailable`, `deadline_exceeded` */
export async function openOperatorDoor(options: OperatorDoorOptions): Promise<OperatorDoor> {
  const { dir, port, name, cluster, seedPath, key, environment = {} } = options;
  const server = new NatsServer({
    ...{ dir, port, name: doorName(name), operators: [key], environment },
    cluster: { ...cluster, host: quietAddress, port: anyPort },
  });
  await using opened = new AsyncDisposableStack();
  opened.use(server);
  await server.start();
  const bus = opened.use(await connectBus({ servers: server.url, seedPath, identity: "operator" }));
  const endMs = performance.now() + routesLimitMs;
  // A question that nobody hears is answered at once, until the first route is there.
  while ((await serverGroup(bus).catch(() => undefined)) === undefined && performance.now() < endMs)
    await delay(lookEveryMs);
  const all = opened.move();
  return { bus, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
