/** A bus whose store is full refuses what is new by a code of its own, keeps what it has, and goes on with room. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { jetstreamManager } from "@nats-io/jetstream";
import { connectBus } from "./bus.ts";
import { FactStore } from "./facts.ts";
import { Replica } from "./replica.ts";
import { stateStream } from "./state-stream.ts";
import { startTestServer } from "./test-server.ts";
import { startTestCluster } from "./testing/test-cluster.ts";

const limitMs = 20_000;
const pad = "x".repeat(1_000);
const isFull = (error: unknown) => error instanceof HearthError && error.code === "bus_full";

test("one server that is full", { timeout: 60_000 }, async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  await fillsUp(bus, bus, nats.dir, 1);
});

test("a cluster that is full", { timeout: 120_000 }, async () => {
  await using cluster = await startTestCluster();
  await using keeper = await connectBus(cluster.keeperLogin);
  await fillsUp(await cluster.connect("s1"), keeper, cluster.dir, 3);
});

type Bus = Awaited<ReturnType<typeof connectBus>>;

async function fillsUp(bus: Bus, keeper: Bus, dir: string, streamReplicas: number): Promise<void> {
  const facts = new FactStore({ bus });
  await using replica = new Replica({ bus, path: join(dir, "replica.db"), streamReplicas });
  replica.start();
  await facts.publish("app.first", { pad });
  const manager = await jetstreamManager(keeper.connection);
  const room = async (max_bytes: number) => {
    const { config } = await manager.streams.info(stateStream);
    await manager.streams.update(stateStream, { ...config, max_bytes });
  };
  await room(20_000);
  const written: string[] = [];
  const write = async (key: string) => {
    const { clock } = await facts.write(key, { pad });
    await replica.waitForWrite({ key, clock }, { timeoutMs: limitMs });
    written.push(key);
  };
  await assert.rejects(async () => {
    for (let n = 0; n < 40; n += 1) await write(`app.a${n}`);
  }, isFull);
  assert.ok(written.length > 5, `${written.length}`);
  await assert.rejects(facts.compareAndSet("app.other", { pad }, 0), isFull);
  const all = () => replica.list("app.").map(({ key }) => key);
  assert.deepEqual(all(), ["app.first", ...written].sort(), "reads go on, and nothing was forgotten");
  assert.notEqual(await facts.read("app.first"), undefined);
  await facts.delete("app.a0");
  await room(1_000_000);
  await write("app.z");
  const held = await manager.streams.info(stateStream, { subjects_filter: ">" });
  assert.equal(
    Object.keys(held.state.subjects ?? {}).length,
    written.length + 1,
    "all of them in the stream",
  );
}
