/** What a write under a condition promises, on real servers; and what it finds out when answers do not come. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { type JetStreamClient, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { TimeoutError } from "@nats-io/nats-core";
import type { Bus } from "./bus.ts";
import { writeIf } from "./conditional-write.ts";
import { writeHeaders } from "./fact-version.ts";
import { FactStore } from "./facts.ts";
import { putBackFacts } from "./put-back.ts";
import { stateHealth, takesWrites } from "./state-keeper.ts";
import { startTestServer } from "./test-server.ts";
import { eventually } from "./testing/eventually.ts";
import { startTestCluster, type TestCluster } from "./testing/test-cluster.ts";

const code = (expected: string) => (error: unknown) =>
  error instanceof HearthError && error.code === expected;
const rounds = 200;
const servers = ["s1", "s2", "s3"] as const;

/** One as it is connected with each server. */
async function stores(cluster: TestCluster) {
  return await Promise.all(servers.map(async (name) => new FactStore({ bus: await cluster.connect(name) })));
}

async function manage(bus: Bus) {
  return { client: jetstream(bus.connection), manager: await jetstreamManager(bus.connection) };
}

describe("writes that race in a cluster", { timeout: 120_000 }, () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await startTestCluster();
  });
  after(async () => await cluster?.[Symbol.asyncDispose]());

  test("of those that saw the same revision one is taken, and the others are told", async () => {
    const facts = await stores(cluster);
    for (let round = 0; round < rounds; round += 1) {
      const key = `policy.race-${round % 10}`;
      const revision = await facts[0]?.publish(key, {});
      const outcomes = await Promise.allSettled(
        facts.map((store, by) => store.compareAndSet(key, { by }, revision ?? 0)),
      );
      const won = outcomes.flatMap(({ status }, by) => (status === "fulfilled" ? [by] : []));
      assert.equal(won.length, 1, `round ${round}: ${won}`);
      for (const outcome of outcomes)
        if (outcome.status === "rejected")
          assert.ok(code("conflict")(outcome.reason), String(outcome.reason));
      assert.deepEqual((await facts[0]?.read(key))?.value, { by: won[0] });
    }
  });

  test("a deletion that is acknowledged is not undone by a change of what was there before it", async () => {
    const facts = await stores(cluster);
    for (let round = 0; round < rounds; round += 1) {
      const key = `policy.gone-${round}`;
      const revision = (await facts[0]?.compareAndSet(key, {}, 0)) ?? 0;
      const changing = facts[1]?.compareAndSet(key, { changed: true }, revision).catch((error: unknown) => {
        assert.ok(code("conflict")(error), String(error));
      });
      await facts[2]?.write(key, undefined);
      await changing;
      assert.equal(await facts[0]?.read(key), undefined, `round ${round}`);
    }
  });

  test("of copies that are put back at once the newest stays", async () => {
    const deps = await Promise.all(servers.map(async (name) => await manage(await cluster.connect(name))));
    const [facts] = await stores(cluster);
    for (let round = 0; round < rounds; round += 1) {
      const key = `policy.copy-${round % 10}`;
      await facts?.publish(key, { clock: 0 });
      // Far ahead of the clock of the write above, so that each of them counts as newer.
      const clocks = [1, 2, 3].map((number) => (Date.now() + 3_600_000 + round) * 1_000 + number);
      const { signal } = new AbortController();
      await Promise.all(
        deps.map(async (each, at) => {
          const clock = clocks[at] ?? 0;
          const origin = { stream: "before", revision: 1, clock };
          await putBackFacts(
            { ...each, stream: "now" },
            [{ key, value: { clock }, revision: 0, origin }],
            signal,
          );
        }),
      );
      assert.deepEqual((await facts?.read(key))?.value, { clock: clocks[2] }, `round ${round}`);
    }
  });
});

describe("a write without an answer", { timeout: 60_000 }, () => {
  /** `before` and `after` are done around each send; one that throws loses the send, or its answer. */
  async function setUp(loses: {
    before?: (sent: number) => Promise<void> | void;
    after?: (sent: number) => Promise<void> | void;
  }) {
    const nats = await startTestServer();
    const bus = await nats.connect();
    const facts = new FactStore({ bus });
    const first = await facts.compareAndSet("policy.a", { n: 1 }, 0);
    const { client, manager } = await manage(bus);
    let sent = 0;
    const losing = {
      publish: async (...args: Parameters<JetStreamClient["publish"]>) => {
        sent += 1;
        await loses.before?.(sent);
        const ack = await client.publish(...args);
        await loses.after?.(sent);
        return ack;
      },
    } as unknown as JetStreamClient;
    const write = async (expectedRevision: number, timeoutMs = 5_000) =>
      await writeIf(
        { client: losing, manager },
        {
          ...{ key: "policy.a", text: '{"n":2}', headers: writeHeaders(false, Date.now() * 1_000) },
          ...{ expectedRevision, timeoutMs, answerMs: 200 },
        },
      );
    return {
      ...{ facts, first, write },
      sent: () => sent,
      async [Symbol.asyncDispose]() {
        await bus.close();
        await nats[Symbol.asyncDispose]();
      },
    };
  }
  const lose = (number: number) => (sent: number) => {
    if (sent <= number) throw new TimeoutError();
  };

  test("was taken all the same, once", async () => {
    await using given = await setUp({ after: lose(2) });
    const revision = await given.write(given.first);
    assert.ok(given.sent() > 1, "it was sent again");
    assert.deepEqual(await given.facts.read("policy.a"), { value: { n: 2 }, revision });
    assert.equal(revision, given.first + 1);
  });

  test("was not taken, and is then", async () => {
    await using given = await setUp({ before: lose(1) });
    const revision = await given.write(given.first);
    assert.deepEqual(await given.facts.read("policy.a"), { value: { n: 2 }, revision });
  });

  test("was not taken, as another was in its place", async () => {
    await using given = await setUp({
      before: async (sent) => {
        if (sent > 1) return;
        await given.facts.compareAndSet("policy.a", { n: 3 }, given.first);
        throw new TimeoutError();
      },
    });
    await assert.rejects(given.write(given.first), code("conflict"));
    assert.deepEqual((await given.facts.read("policy.a"))?.value, { n: 3 });
  });

  test("may have been taken before another followed it: then it is not said that it was not", async () => {
    await using given = await setUp({
      after: async (sent) => {
        if (sent > 1) return;
        await given.facts.compareAndSet("policy.a", { n: 3 }, given.first + 1);
        throw new TimeoutError();
      },
    });
    await assert.rejects(given.write(given.first), code("deadline_exceeded"));
  });

  test("never gets one: its time is over", async () => {
    await using given = await setUp({ before: lose(Number.POSITIVE_INFINITY) });
    await assert.rejects(given.write(given.first, 50), code("deadline_exceeded"));
  });

  test("of a key that was not there was taken all the same", async () => {
    await using nats = await startTestServer();
    await using bus = await nats.connect();
    await new FactStore({ bus }).start();
    const { client, manager } = await manage(bus);
    let sent = 0;
    const publish = async (...args: Parameters<JetStreamClient["publish"]>) => {
      const ack = await client.publish(...args);
      sent += 1;
      if (sent === 1) throw new TimeoutError();
      return ack;
    };
    const revision = await writeIf(
      { client: { publish } as unknown as JetStreamClient, manager },
      {
        ...{ key: "policy.new", text: "{}", headers: writeHeaders(false, 1), expectedRevision: 0 },
        ...{ timeoutMs: 5_000, answerMs: 200 },
      },
    );
    assert.equal((await manager.streams.info("HEARTH_STATE")).state.last_seq, revision);
  });
});

describe("a server that has read its configuration again", { timeout: 120_000 }, () => {
  test("is not answered by one that connected later, until it reads it once more; a write that waits is taken once", async () => {
    await using cluster = await startTestCluster();
    const bus = await cluster.connect("s1");
    const answered = async () => await takesWrites(bus, "policy.probe", 1_500);
    const { keeper } = await cluster.agent("s1");
    /** Until this one leads: who is to is not for the asking in 2.9.10. */
    const lead = async (name: string) =>
      await eventually(`${name} leads`, async () => {
        if ((await stateHealth(keeper))?.leader === name) return true;
        await keeper.connection.request("$JS.API.STREAM.LEADER.STEPDOWN.HEARTH_STATE", "", {
          timeout: 2_000,
        });
        await delay(1_000);
        return undefined;
      });
    await cluster.servers.get("s1")?.reload(cluster.config("s1"));
    // It makes the place when it is first asked after that, and tells it to those who are there.
    assert.equal(await answered(), true);
    await cluster.servers.get("s2")?.stop("SIGKILL");
    await cluster.start("s2");
    await eventually("all copies", async () =>
      (await stateHealth(keeper))?.current === 3 ? true : undefined,
    );
    await lead("s2");
    const [, , patch] = String(bus.connection.info?.version).split(".").map(Number);
    const isOld = bus.connection.info?.version.startsWith("2.9.") === true && Number(patch) < 17;
    assert.equal(await answered(), !isOld);
    const facts = new FactStore({ bus });
    const before = (await new FactStore({ bus: keeper }).position()).revision;
    const waiting = facts.compareAndSet("policy.waits", {}, 0);
    await delay(500);
    await cluster.servers.get("s1")?.reload(cluster.config("s1"));
    assert.equal(await waiting, before + 1);
    assert.equal(await answered(), true);
    assert.equal((await facts.position()).revision, before + 1);
  });
});
