import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import type { Bus } from "./bus.ts";
import { FactStore } from "./facts.ts";
import { Replica } from "./replica.ts";
import type { ReplicaOptions } from "./replica-options.ts";
import { startTestServer } from "./test-server.ts";

const code = (expected: string) => (error: unknown) =>
  error instanceof HearthError && error.code === expected;
const timeoutMs = 10_000;
const quick = { retryMs: 20, checkMs: 20 };

async function until(condition: () => boolean): Promise<void> {
  const limit = AbortSignal.timeout(timeoutMs);
  while (!condition()) {
    limit.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function startReplica(bus: Bus | Promise<Bus>, path: string, options: Partial<ReplicaOptions> = {}): Replica {
  const replica = new Replica({ bus, path, ...quick, ...options });
  replica.start();
  return replica;
}

test("a replica shows what was written, tells watchers, and waits for a revision", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  await using replica = startReplica(bus, join(nats.dir, "replica.db"));
  const seen: (string | undefined)[] = [];
  using _watch = replica.watch("machine.", (fact) => seen.push(fact.key));
  await facts.publish("machine.a", { n: 1 });
  await facts.publish("app.web", { n: 2 });
  const revision = await facts.publish("machine.b", { n: 3 });
  await replica.waitForRevision("machine.b", revision, { timeoutMs });
  assert.deepEqual(
    replica.list("machine.").map((fact) => fact.value),
    [{ n: 1 }, { n: 3 }],
  );
  const gone = await facts.delete("machine.a");
  await replica.waitForRevision("machine.a", gone, { timeoutMs });
  assert.equal(replica.get("machine.a"), undefined);
  assert.deepEqual(seen, ["machine.a", "machine.b", "machine.a"]);
  await until(() => replica.ageMs < 1_000);
  await assert.rejects(replica.waitForRevision("x", 99, { timeoutMs: 30 }), code("deadline_exceeded"));
  const signal = AbortSignal.abort();
  await assert.rejects(replica.waitForRevision("x", 99, { timeoutMs, signal }), code("cancelled"));
});

test("a replica starts from its disk with the bus down, and catches up when the server is back", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const path = join(nats.dir, "replica.db");
  const facts = new FactStore({ bus });
  {
    await using replica = startReplica(bus, path);
    await replica.waitForRevision("a", await facts.publish("a", 1), { timeoutMs });
  }
  const missed = await facts.publish("b", 2);
  await nats.server.stop("SIGKILL");
  const giveUp = new AbortController();
  const offline = nats.connect({ retryUntil: giveUp.signal });
  await using replica = startReplica(offline, path);
  assert.equal(replica.get("a")?.value, 1);
  assert.equal(replica.get("b"), undefined);
  await nats.server.start();
  await replica.waitForRevision("b", missed, { timeoutMs });
  assert.equal(replica.get("b")?.value, 2);
  await replica.stop();
  giveUp.abort();
  await (await offline).close();
});

test("a value that is not JSON counts as none and does not stop the feed", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  await facts.start();
  await using replica = startReplica(bus, join(nats.dir, "replica.db"));
  await bus.connection.request("state.bad", "{not json");
  await replica.waitForRevision("good", await facts.publish("good", 1), { timeoutMs });
  assert.equal(replica.get("bad"), undefined);
  assert.equal(replica.get("good")?.value, 1);
});
