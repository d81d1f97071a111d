/**
 * A client whose server falls silent, as with a host that has lost its power: nothing ends its connection, and who dials
 * that host gets no answer. Real servers; the host is a relay that stops passing anything on.
 */
import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { connectBus } from "./bus.ts";
import { FactStore } from "./facts.ts";
import { startTestCluster } from "./testing/test-cluster.ts";

/** Passes on what comes, until it falls silent; then it takes connections and says nothing. */
async function relayTo(port: number): Promise<{ port: number; silence(): void } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  let isSilent = false;
  const server: Server = createServer((near) => {
    sockets.add(near.on("error", () => undefined));
    if (isSilent) return;
    const far = connect({ host: "127.0.0.1", port }).on("error", () => undefined);
    sockets.add(far);
    near.on("data", (data) => isSilent || far.write(data));
    far.on("data", (data) => isSilent || near.write(data));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return {
    port: address.port,
    silence() {
      isSilent = true;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("a client whose server falls silent writes through another one, before twice the time of an election", {
  timeout: 120_000,
}, async () => {
  await using cluster = await startTestCluster();
  const silent = "s1";
  await using relay = await relayTo(cluster.config(silent).port);
  const { seedPath } = cluster.keeperLogin;
  assert.ok(seedPath !== undefined);
  await using bus = await connectBus({
    servers: [`nats://127.0.0.1:${relay.port}`, `nats://127.0.0.1:${cluster.config("s2").port}`],
    ...{ seedPath, identity: "keeper" },
  });
  assert.ok(bus.connection.getServer().endsWith(`:${relay.port}`));
  const facts = new FactStore({ bus, replicas: 3 });
  await facts.write("policy.before", 1);
  const { connections } = bus;
  relay.silence();
  const lost = AbortSignal.timeout(18_000);
  for (;;) {
    assert.equal(lost.aborted, false, "it has not found another server");
    const written = await facts.write("policy.after", 2).catch(() => undefined);
    if (written !== undefined) break;
  }
  assert.ok(bus.connections > connections);
  assert.ok(!bus.connection.getServer().endsWith(`:${relay.port}`));
});

test("a client that was with a server that is cut off finds the others when that one ends", {
  timeout: 120_000,
}, async () => {
  await using cluster = await startTestCluster();
  const { seedPath } = cluster.keeperLogin;
  assert.ok(seedPath !== undefined);
  const own = `nats://127.0.0.1:${cluster.config("s1").port}`;
  await using bus = await connectBus({ servers: own, seedPath, identity: "keeper", reconnectWaitMs: 50 });
  const limit = AbortSignal.timeout(60_000);
  const until = async (what: string, isSo: () => Promise<boolean>): Promise<void> => {
    while (!(await isSo().catch(() => false))) {
      assert.equal(limit.aborted, false, what);
      await bus.flush().catch(() => undefined);
    }
  };
  const isWithFirst = (): boolean => `nats://${bus.connection.getServer()}` === own;
  await cluster.servers.get("s1")?.stop();
  await until("it is with another", async () => bus.isConnected && !isWithFirst());
  await cluster.start("s1", { secret: "another5ec2e7" });
  for (const other of ["s2", "s3"]) await cluster.servers.get(other)?.stop();
  await until("it is with the one that is cut off", async () => bus.isConnected && isWithFirst());
  for (const other of ["s2", "s3"]) await cluster.start(other);
  await cluster.servers.get("s1")?.stop();
  const facts = new FactStore({ bus, replicas: 3 });
  await until("it writes", async () => (await facts.write("policy.after", 2)) !== undefined);
});
