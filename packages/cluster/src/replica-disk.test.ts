/** Kinds of facts that stay on the replica's disk, and which changes are news. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { FactStore } from "./facts.ts";
import { Replica } from "./replica.ts";
import type { ReplicaOptions, StreamLoss } from "./replica-options.ts";
import { startTestServer } from "./test-server.ts";

const timeoutMs = 10_000;
const quick = { retryMs: 20, checkMs: 20 };

function start(options: Pick<ReplicaOptions, "bus" | "path"> & Partial<ReplicaOptions>): Replica {
  const replica = new Replica({ ...quick, onDisk: ["machine.", "machine-name."], ...options });
  replica.start();
  return replica;
}

async function until(holds: () => boolean): Promise<void> {
  const limit = AbortSignal.timeout(timeoutMs);
  while (!holds()) {
    limit.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("what stays on disk is read, listed, scanned, watched and deleted as what is in memory", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  const path = join(nats.dir, "replica.db");
  const keys = (found: Iterable<{ key: string }>) => [...found].map(({ key }) => key);
  {
    await using replica = start({ bus, path });
    const seen: unknown[] = [];
    using _watching = replica.watch("machine.", ({ value }) => seen.push(value));
    for (const key of ["machine.n2.b", "machine.n1.a", "machine-name.web.x", "node.n1", "machines"])
      await facts.publish(key, { of: key });
    const gone = await facts.publish("machine.n1.gone", 1);
    await replica.waitForRevision("machine.n1.gone", gone, { timeoutMs });
    assert.equal(replica.get("machine.n1.gone")?.value, 1);
    await replica.waitForRevision("none", await facts.delete("machine.n1.gone"), { timeoutMs });
    assert.equal(replica.get("machine.n1.gone"), undefined);
    assert.deepEqual(replica.get("machine.n1.a")?.value, { of: "machine.n1.a" });
    assert.deepEqual(keys(replica.list("machine.")), ["machine.n1.a", "machine.n2.b"]);
    assert.deepEqual(keys(replica.list("machine.n2.")), ["machine.n2.b"]);
    assert.deepEqual(keys(replica.scan("machine.")).sort(), ["machine.n1.a", "machine.n2.b"]);
    assert.deepEqual(keys(replica.list("machine-name.web.")), ["machine-name.web.x"]);
    assert.deepEqual(keys(replica.list("node.")), ["node.n1"]);
    assert.deepEqual(keys(replica.list("m")), [
      ...["machine-name.web.x", "machine.n1.a", "machine.n2.b", "machines"],
    ]);
    assert.deepEqual(seen, [{ of: "machine.n2.b" }, { of: "machine.n1.a" }, 1, undefined]);
  }
  await using again = start({ bus, path });
  assert.deepEqual(keys(again.list("machine.")), ["machine.n1.a", "machine.n2.b"], "before the bus is asked");
  assert.deepEqual(keys(again.list("node.")), ["node.n1"]);
});

test("what had piled up while nobody followed is no news; what is published from then on is", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  await facts.publish("node.old", 1);
  const last = await facts.publish("node.older", 1);
  await using replica = start({ bus, path: join(nats.dir, "replica.db") });
  const seen = new Map<string, boolean>();
  using _watching = replica.watch("node.", ({ key }, { isLive }) => seen.set(key, isLive));
  await replica.waitForRevision("node.older", last, { timeoutMs });
  await until(() => Number.isFinite(replica.ageMs));
  await replica.waitForRevision("node.new", await facts.publish("node.new", 1), { timeoutMs });
  assert.deepEqual(
    [...seen],
    [
      ["node.old", false],
      ["node.older", false],
      ["node.new", true],
    ],
  );
});

test("a stream that was made anew replaces what is on disk, which stays readable until then", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  const path = join(nats.dir, "replica.db");
  {
    await using replica = start({ bus, path });
    for (const key of ["app.a", "machine-name.web.x"]) await facts.publish(key, 1);
    const revision = await facts.publish("machine.n1.a", "old");
    await replica.waitForRevision("machine.n1.a", revision, { timeoutMs });
  }
  await (await jetstreamManager(bus.connection)).streams.delete("HEARTH_STATE");
  const losses: StreamLoss[] = [];
  await using replica = start({
    ...{ bus, path, settleMs: 1, restores: (key) => !key.startsWith("machine.") },
    onStreamLoss: (loss) => void losses.push(loss),
  });
  await until(() => losses.length > 0);
  assert.deepEqual(losses, [{ kind: "replaced", lost: 3, restored: 2, overtaken: 0 }]);
  await until(() => (replica.get("machine-name.web.x")?.revision ?? 0) > 0);
  assert.equal(replica.get("machine.n1.a")?.value, "old", "still readable");
  const again = new FactStore({ bus });
  await replica.waitForRevision("machine.n1.a", await again.publish("machine.n1.a", "new"), { timeoutMs });
  assert.equal(replica.get("machine.n1.a")?.value, "new");
});

test("what an owner did not say again is forgotten on disk, once", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  await using replica = start({ bus, path: join(nats.dir, "replica.db") });
  await facts.publish("machine.n1.a", 1);
  await facts.publish("machine.n2.a", 1);
  const revision = await facts.publish("machine.n1.b", 1);
  await replica.waitForRevision("machine.n1.b", revision, { timeoutMs });
  const gone: string[] = [];
  using _watching = replica.watch("machine.", ({ key, value }) => value === undefined && gone.push(key));
  for (const _ of [1, 2]) replica.forget("machine.n1.", { stream: replica.stream, revision });
  assert.deepEqual(gone, ["machine.n1.a"]);
  assert.deepEqual(
    replica.list("machine.").map(({ key }) => key),
    ["machine.n1.b", "machine.n2.a"],
  );
});
