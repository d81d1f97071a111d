/** A stream that is lost under replicas: a real server whose store is removed, or put back as it was earlier. */
import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import type { Bus } from "./bus.ts";
import { FactStore, type Written } from "./facts.ts";
import { Replica } from "./replica.ts";
import type { ReplicaOptions, StreamLoss } from "./replica-options.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

const timeoutMs = 15_000;

async function eventually(condition: () => boolean, what: string): Promise<void> {
  const limit = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > limit) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

interface Copy extends AsyncDisposable {
  readonly replica: Replica;
  readonly facts: FactStore;
  readonly bus: Bus;
  readonly losses: StreamLoss[];
}

async function copyOf(nats: TestServer, name: string, options: Partial<ReplicaOptions> = {}): Promise<Copy> {
  const bus = await nats.connect();
  const losses: StreamLoss[] = [];
  const replica = new Replica({
    bus,
    path: join(nats.dir, `${name}.db`),
    ...{ retryMs: 20, checkMs: 20, settleMs: 50, restores: () => true },
    onStreamLoss: (loss) => losses.push(loss),
    ...options,
  });
  replica.start();
  return {
    ...{ replica, bus, losses, facts: new FactStore({ bus }) },
    async [Symbol.asyncDispose]() {
      await replica.stop();
      await bus.close();
    },
  };
}

const store = (nats: TestServer): string => join(nats.dir, "jetstream");

async function lose(nats: TestServer, replaceBy?: string): Promise<void> {
  await nats.server.stop("SIGKILL");
  await rm(store(nats), { recursive: true });
  if (replaceBy !== undefined) await cp(replaceBy, store(nats), { recursive: true });
  await nats.server.start();
}

const has = (copy: Copy, written: Written) => copy.replica.waitForWrite(written, { timeoutMs });

test("a stale copy that is first cannot bring back what a fresher one knows to be older or deleted", async () => {
  await using nats = await startTestServer();
  await using fresh = await copyOf(nats, "fresh");
  let last: Written;
  {
    await using stale = await copyOf(nats, "stale");
    await stale.facts.write("app.changed", "old");
    last = await stale.facts.write("app.deleted", "old");
    await has(stale, last);
  }
  const changed = await fresh.facts.write("app.changed", "new");
  await has(fresh, await fresh.facts.write("app.deleted", undefined));
  await has(fresh, changed);
  await fresh.replica.stop();
  await lose(nats);
  await using stale = await copyOf(nats, "stale");
  await eventually(() => stale.losses.length === 1, "the stale copy has put back what it had");
  assert.deepEqual(stale.losses, [{ kind: "replaced", lost: 2, restored: 2, overtaken: 0 }]);
  assert.equal(stale.replica.restoration?.restored, 2);
  await using again = await copyOf(nats, "fresh");
  await eventually(() => again.losses.length === 1, "the fresh copy has put back what it had");
  assert.deepEqual(again.losses, [{ kind: "replaced", lost: 2, restored: 2, overtaken: 0 }]);
  await eventually(() => stale.replica.get("app.changed")?.value === "new", "the newer value is back");
  await eventually(() => stale.replica.get("app.deleted") === undefined, "the deletion is back");
});

test("a stream without its end gets it back, also when new writes have used its numbers again", async () => {
  await using nats = await startTestServer();
  const before = join(nats.dir, "before");
  const late = { key: "app.late", value: "acknowledged" };
  {
    await using copy = await copyOf(nats, "copy");
    await has(copy, await copy.facts.write("app.early", 1));
    await has(copy, await copy.facts.write("app.twice", "first"));
    await nats.server.stop("SIGTERM");
    await cp(store(nats), before, { recursive: true });
    await nats.server.start();
    await eventually(() => copy.replica.isSettled, "connected again");
    await has(copy, await copy.facts.write("app.twice", "second"));
    await has(copy, await copy.facts.write(late.key, late.value));
  }
  await lose(nats, before);
  await using other = await nats.connect();
  const writer = new FactStore({ bus: other });
  // The same sequences, and one more than the copy's position.
  for (const key of ["app.new1", "app.new2", "app.new3"]) await writer.write(key, key);
  await using copy = await copyOf(nats, "copy");
  await eventually(() => copy.losses.length === 1, "the loss is seen");
  assert.deepEqual(copy.losses, [{ kind: "shortened", lost: 2, restored: 2, overtaken: 0 }]);
  await eventually(() => copy.replica.get("app.new3") !== undefined, "the feed goes on");
  const values = copy.replica.list("app.").map(({ key, value }) => [key, value]);
  assert.deepEqual(values, [
    ["app.early", 1],
    ["app.late", "acknowledged"],
    ...["app.new1", "app.new2", "app.new3"].map((key) => [key, key]),
    ["app.twice", "second"],
  ]);
});

test("a copy puts back only what it may write, and what is nobody's stays readable until its owner speaks", async () => {
  await using nats = await startTestServer();
  await using copy = await copyOf(nats, "copy", { restores: (key) => key.startsWith("app.") });
  await copy.facts.publish("machine.n1.kept", 1);
  await copy.facts.publish("machine.n1.gone", 1);
  await has(copy, await copy.facts.write("app.web", 1));
  assert.equal(await copy.facts.isIntact(), true);
  await lose(nats);
  await eventually(() => copy.losses.length === 1 && copy.replica.isSettled, "put back");
  assert.deepEqual(copy.losses, [{ kind: "replaced", lost: 3, restored: 1, overtaken: 0 }]);
  assert.equal(copy.replica.list("machine.").length, 2);
  assert.equal(await copy.facts.isIntact(), false);
  const { stream, revision } = await copy.facts.position();
  copy.facts.noteRestated();
  const seen: string[] = [];
  using _watch = copy.replica.watch("machine.", ({ key, value }) => seen.push(`${key} ${value}`));
  await copy.facts.publish("machine.n1.kept", 2);
  assert.equal(await copy.facts.isIntact(), true);
  await has(copy, await copy.facts.write("node.n1", 1));
  copy.replica.forget("machine.n1.", { stream: "another", revision: revision + 1 });
  assert.equal(copy.replica.list("machine.").length, 2);
  copy.replica.forget("machine.n1.", { stream, revision: revision + 1 });
  assert.deepEqual(seen, ["machine.n1.kept 2", "machine.n1.gone undefined"]);
});

for (const [what, spoil] of [
  ["damaged", (path: string) => writeFileSync(path, "no database at all, whoever looks at it".repeat(200))],
  [
    "of another version",
    (path: string) => {
      using database = new DatabaseSync(path);
      database.exec("PRAGMA user_version = 99");
    },
  ],
] as const)
  test(`a file that is ${what} is set aside, kept, and made anew from the stream`, async () => {
    await using nats = await startTestServer();
    {
      await using copy = await copyOf(nats, "copy");
      await has(copy, await copy.facts.write("app.web", 1));
    }
    spoil(join(nats.dir, "copy.db"));
    const aside: string[] = [];
    await using copy = await copyOf(nats, "copy", { onSetAside: ({ path }) => aside.push(path) });
    assert.equal(copy.replica.get("app.web"), undefined);
    await eventually(() => copy.replica.get("app.web")?.value === 1, "the stream fills it again");
    assert.equal(aside.length, 1);
    assert.ok(readdirSync(nats.dir).some((name) => aside[0]?.endsWith(name)));
  });

test("with the file damaged and the stream empty it is said that nobody has what the file held", async () => {
  await using nats = await startTestServer();
  writeFileSync(join(nats.dir, "copy.db"), "no database".repeat(500));
  const errors: string[] = [];
  await using _copy = await copyOf(nats, "copy", {
    onError: (error) => errors.push(error instanceof Error ? error.message : ""),
  });
  await eventually(() => errors.some((text) => text.includes("The stream is empty too")), "it is said");
});

test("a copy of the version before is read, and what it has is put back", async () => {
  await using nats = await startTestServer();
  await using first = await copyOf(nats, "first");
  await has(first, await first.facts.write("app.other", 1));
  {
    using database = new DatabaseSync(join(nats.dir, "old.db"));
    database.exec(`
      CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT, revision INTEGER NOT NULL) STRICT;
      CREATE TABLE position (id INTEGER PRIMARY KEY CHECK (id = 1), stream TEXT NOT NULL, revision INTEGER NOT NULL, checked_at INTEGER NOT NULL) STRICT;
      INSERT INTO fact VALUES ('app.web', '"kept"', 7), ('app.deleted', NULL, 8);
      INSERT INTO position VALUES (1, 'lost', 8, 0);`);
  }
  await using old = await copyOf(nats, "old");
  await eventually(() => first.replica.get("app.web")?.value === "kept", "another copy has it");
  await eventually(() => old.losses.length > 0, "the loss is told");
  assert.deepEqual(old.losses, [{ kind: "replaced", lost: 2, restored: 2, overtaken: 0 }]);
});

test("what an earlier stream brings back is no news, and what is written to it then is", async () => {
  await using nats = await startTestServer();
  const before = join(nats.dir, "before");
  await using copy = await copyOf(nats, "copy", { restores: () => false });
  await has(copy, await copy.facts.write("name.web.one", 1));
  await nats.server.stop("SIGKILL");
  await cp(store(nats), before, { recursive: true });
  await nats.server.start();
  await lose(nats);
  await eventually(() => copy.losses.length === 1 && copy.replica.isSettled, "another stream is followed");
  const heard: [string, boolean][] = [];
  using _watch = copy.replica.watch("name.", ({ key }, { isPutBack }) => heard.push([key, isPutBack]));
  await lose(nats, before);
  await eventually(() => copy.losses.length === 2 && copy.replica.isSettled, "the earlier one is back");
  await has(copy, await copy.facts.write("name.web.two", 1));
  assert.deepEqual(heard, [
    ["name.web.one", true],
    ["name.web.two", false],
  ]);
});
