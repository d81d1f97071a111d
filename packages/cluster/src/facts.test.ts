import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { jetstreamManager } from "@nats-io/jetstream";
import type { Bus } from "./bus.ts";
import { FactStore } from "./facts.ts";
import { Outbox } from "./outbox.ts";
import { stateStream } from "./state-stream.ts";
import { startTestServer } from "./test-server.ts";

const code = (expected: string) => (error: unknown) =>
  error instanceof HearthError && error.code === expected;

async function stored(bus: Bus, key: string): Promise<unknown> {
  const manager = await jetstreamManager(bus.connection);
  const message = await manager.streams.getMessage(stateStream, { last_by_subj: `state.${key}` });
  return message?.json();
}

async function until(condition: () => boolean): Promise<void> {
  const limit = AbortSignal.timeout(10_000);
  while (!condition()) {
    limit.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("compare-and-set lets one of two writers win, and a deleted key can be made again", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  const first = await facts.compareAndSet("app.web", { n: 1 }, 0);
  await assert.rejects(facts.compareAndSet("app.web", { n: 9 }, 0), code("conflict"));
  const race = await Promise.allSettled([2, 3].map((n) => facts.compareAndSet("app.web", { n }, first)));
  assert.equal(race.filter((result) => result.status === "fulfilled").length, 1);
  await facts.delete("app.web");
  await facts.compareAndSet("app.web", { n: 4 }, 0);
  assert.deepEqual(await stored(bus, "app.web"), { n: 4 });
  await assert.rejects(facts.publish("app.*", 1), code("invalid_argument"));
});

test("facts and revisions outlive a kill of the server", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  const revision = await facts.publish("machine.m1", { state: "started" });
  await nats.server.stop("SIGKILL");
  await nats.server.start();
  await using again = await nats.connect();
  assert.deepEqual(await stored(again, "machine.m1"), { state: "started" });
  const next = await new FactStore({ bus: again }).compareAndSet(
    "machine.m1",
    { state: "stopped" },
    revision,
  );
  assert.ok(next > revision);
});

test("the outbox holds rows while the server is down and sends them in order when it is back", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus, timeoutMs: 300 });
  await facts.start();
  using database = new DatabaseSync(join(nats.dir, "worker.db"));
  await using outbox = new Outbox({ database, facts, ownerId: "n1", retryMs: 20 });
  outbox.start();
  await nats.server.stop("SIGKILL");
  database.exec("BEGIN");
  for (let n = 1; n <= 5; n += 1) outbox.add("machine.m1", { n });
  database.exec("COMMIT");
  outbox.signal();
  assert.equal(outbox.pending, 5);
  await nats.server.start();
  await until(() => outbox.pending === 0);
  assert.deepEqual(await stored(bus, "machine.m1"), { n: 5 });
});

test("a row committed by a process that was killed is sent by the next one, a rolled back one is not", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const facts = new FactStore({ bus });
  await facts.start();
  const path = join(nats.dir, "worker.db");
  const script = `
    const { DatabaseSync } = await import("node:sqlite");
    const { Outbox } = await import(${JSON.stringify(new URL("./outbox.ts", import.meta.url).href)});
    const database = new DatabaseSync(process.argv[1]);
    const never = () => new Promise(() => setInterval(() => {}, 1000));
    const outbox = new Outbox({ database, facts: { publish: never, delete: never }, ownerId: "n1" });
    outbox.start();
    database.exec("BEGIN"); outbox.add("machine.kept", 1); database.exec("COMMIT");
    database.exec("BEGIN"); outbox.add("machine.lost", 1);
    console.log("committed"); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  using database = new DatabaseSync(path);
  await using outbox = new Outbox({ database, facts, ownerId: "n1" });
  outbox.start();
  assert.equal(outbox.pending, 1);
  await until(() => outbox.pending === 0);
  assert.equal(await stored(bus, "machine.kept"), 1);
  const lost = await stored(bus, "machine.lost").catch(() => undefined);
  assert.equal(lost, undefined);
});

for (const [what, spoil] of [
  ["deleted", undefined],
  ["set back to an earlier state", "copy"],
] as const)
  test(`what is published after the store was ${what} does not hide what it has lost`, async () => {
    await using nats = await startTestServer();
    await using bus = await nats.connect();
    const facts = new FactStore({ bus, timeoutMs: 500 });
    const others = new FactStore({ bus, timeoutMs: 500 });
    // A server that has just started answers nobody for a moment.
    const sent = async (act: () => Promise<unknown>): Promise<void> => {
      const limit = AbortSignal.timeout(20_000);
      for (;;)
        try {
          await act();
          return;
        } catch (error) {
          if (limit.aborted) throw error;
        }
    };
    const store = join(nats.dir, "jetstream");
    await facts.publish("machine.n1.early", 1);
    await nats.server.stop("SIGKILL");
    if (spoil !== undefined) await cp(store, `${nats.dir}/copy`, { recursive: true });
    await nats.server.start();
    await sent(() => facts.publish("machine.n1.late", 1));
    assert.equal(await facts.isIntact(), true);
    await nats.server.stop("SIGKILL");
    await rm(store, { recursive: true });
    if (spoil !== undefined) await cp(`${nats.dir}/copy`, store, { recursive: true });
    // Under way while the bus is away, as the next of an outbox is.
    const waiting = facts.publish("machine.n1.next", 1);
    await nats.server.start();
    await waiting.catch(() => undefined);
    // Others have brought the stream beyond where it was.
    for (const name of ["a", "b", "c", "d", "e"]) await sent(() => others.write(`app.${name}`, 1));
    await sent(() => facts.publish("machine.n1.later", 1));
    await facts.publish("node.n1", 1);
    assert.equal(await facts.isIntact(), false);
    assert.equal(await facts.isIntact(), false, "until all is said again");
    facts.noteRestated();
    assert.equal(await facts.isIntact(), true);
    await facts.publish("machine.n1.late", 1);
    assert.equal(await facts.isIntact(), true);
  });
