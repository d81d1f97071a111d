/** A real nats-server on a free port in a fresh directory, for the tests of this package. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bus, type BusOptions, connectBus } from "./bus.ts";
import { NatsServer } from "./nats-server.ts";

export interface TestServer extends AsyncDisposable {
  readonly server: NatsServer;
  readonly dir: string;
  /** Address, user and password, for a process of its own. */
  readonly login: readonly string[];
  connect(options?: Partial<BusOptions>): Promise<Bus>;
}

export async function startTestServer(): Promise<TestServer> {
  const dir = await mkdtemp(join(tmpdir(), "hearth-cluster-"));
  const login = { user: "test", pass: 'p"a ss' };
  const server = new NatsServer({ dir, port: await freePort(), ...login });
  await server.start();
  return {
    server,
    dir,
    login: [server.url, login.user, login.pass],
    connect: (options = {}) => connectBus({ servers: server.url, ...login, reconnectWaitMs: 50, ...options }),
    async [Symbol.asyncDispose]() {
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
