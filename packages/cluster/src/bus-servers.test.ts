/** A server is taken out of a cluster under writes, and stays out: real servers, with the secret that it still has. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  handOver,
  removeServer,
  serverConnections,
  serverGroup,
  serverId,
  takesSecret,
} from "./bus-servers.ts";
import { FactStore } from "./facts.ts";
import { stateHealth } from "./state-keeper.ts";
import { eventually } from "./testing/eventually.ts";
import { startTestCluster, type TestCluster } from "./testing/test-cluster.ts";

const oldSecret = "5ec2e7";
const newSecret = "a0ther5ec2e7";

/** Writes one fact after the other, each until it is acknowledged, and tells of the longest wait. */
async function writeUnder(cluster: TestCluster, server: string) {
  const facts = new FactStore({ bus: await cluster.connect(server), timeoutMs: 1_000 });
  const acknowledged = new Map<string, number>();
  let isOver = false;
  let longestMs = 0;
  const run = (async () => {
    for (let number = 0; !isOver; number += 1) {
      const key = `policy.w-${server}-${number}`;
      const sinceMs = performance.now();
      for (;;) {
        const written = await facts.write(key, { number }).catch(() => undefined);
        if (written !== undefined) {
          acknowledged.set(key, written.revision);
          break;
        }
        if (isOver) break;
      }
      longestMs = Math.max(longestMs, performance.now() - sinceMs);
      await delay(2);
    }
  })();
  return {
    acknowledged,
    longestMs: () => Math.round(longestMs),
    async goOn(more: number) {
      const from = acknowledged.size;
      await eventually("more writes", async () => (acknowledged.size >= from + more ? true : undefined));
    },
    async [Symbol.asyncDispose]() {
      isOver = true;
      await run;
    },
  };
}

async function expectAll(cluster: TestCluster, server: string, keys: Iterable<string>): Promise<void> {
  const facts = new FactStore({ bus: await cluster.connect(server) });
  for (const key of keys) assert.ok((await facts.read(key)) !== undefined, `${key} is there`);
}

/** As the agents do it, when each says that it has the secret: who leads the stream goes on, the others start again. */
async function changeSecret(cluster: TestCluster, names: readonly string[]): Promise<void> {
  const routes = names.map(cluster.route);
  // Who answers may be what was lost.
  const leader = await eventually("it is known who leads", cluster.leader);
  await Promise.all(
    names.map(async (name) => {
      const server = cluster.servers.get(name);
      const change = { routes, secret: newSecret };
      if (name === leader) return await server?.reload(cluster.config(name, change));
      await server?.stop();
      await cluster.start(name, change);
    }),
  );
}

describe("the servers of a cluster", { timeout: 240_000 }, () => {
  test("the id of a server is what the servers compute from its name", async () => {
    await using cluster = await startTestCluster();
    const { operator } = await cluster.agent("s1");
    const group = await eventually("a leader", async () => serverGroup(operator));
    assert.deepEqual(group.ids.toSorted(), ["s1", "s2", "s3"].map(serverId).sort());
    const connected = await serverConnections(operator);
    assert.deepEqual([...connected.keys()].sort(), ["s1", "s2", "s3"]);
    // A newer server has several connections with each.
    assert.deepEqual([...new Set(connected.get("s1"))].toSorted(), ["s2", "s3"]);
  });

  for (const kind of ["leads", "follows"] as const)
    test(`a server that ${kind} and dies is taken out with a new secret, under writes, and is refused with its old files`, async () => {
      await using cluster = await startTestCluster();
      const leader = await cluster.leader();
      const names = ["s1", "s2", "s3"];
      const gone = kind === "leads" ? leader : (names.find((name) => name !== leader) ?? "");
      const rest = names.filter((name) => name !== gone);
      await using writing = new AsyncDisposableStack();
      const writers = await Promise.all(
        rest.map(async (name) => writing.use(await writeUnder(cluster, name))),
      );
      for (const writer of writers) await writer.goOn(50);
      await cluster.servers.get(gone)?.stop("SIGKILL");
      for (const writer of writers) await writer.goOn(50);
      const before = writers.map(({ longestMs }) => longestMs());
      await changeSecret(cluster, rest);
      const change = { routes: rest.map(cluster.route), secret: newSecret };
      const { operator, keeper } = await cluster.agent(rest[0] ?? "", change);
      for (const writer of writers) await writer.goOn(50);
      await eventually("it is out", async () => {
        const group = await serverGroup(operator);
        if (group?.ids.includes(serverId(gone))) await removeServer(operator, serverId(gone));
        return group?.ids.length === 2 ? true : undefined;
      });
      for (const writer of writers) await writer.goOn(50);
      console.log(
        `# ${kind}: longest write ${before} ms before, ${writers.map((w) => w.longestMs())} ms after`,
      );

      const returned = await cluster.start(gone);
      assert.ok(returned.pid);
      const own = await cluster.agent(gone);
      assert.equal(
        await takesSecret({ name: "test", secret: oldSecret }, cluster.route(rest[0] ?? "")),
        false,
      );
      assert.equal(
        await takesSecret({ name: "test", secret: newSecret }, cluster.route(rest[0] ?? "")),
        true,
      );
      for (const writer of writers) await writer.goOn(300);
      assert.deepEqual((await serverConnections(own.operator)).get(gone), [], "it has no route");
      const connected = await serverConnections(operator);
      assert.deepEqual([...connected.keys()].sort(), rest);
      for (const name of rest)
        assert.deepEqual(
          [...new Set(connected.get(name))],
          rest.filter((other) => other !== name),
        );
      assert.deepEqual((await serverGroup(operator))?.ids.toSorted(), rest.map(serverId).sort());

      const all = [...rest, "s4"];
      const routes = all.map(cluster.route);
      for (const name of all.slice(0, 2))
        await cluster.servers.get(name)?.reload(cluster.config(name, { routes, secret: newSecret }));
      await cluster.start("s4", { routes, secret: newSecret });
      await eventually("three copies again", async () =>
        (await stateHealth(keeper))?.current === 3 ? true : undefined,
      );
      for (const writer of writers) await writer.goOn(50);
      await writing.disposeAsync();
      for (const writer of writers) await expectAll(cluster, "s4", writer.acknowledged.keys());
    });

  test("a server that hands over what it leads goes without an election", async () => {
    await using cluster = await startTestCluster();
    const gone = await cluster.leader();
    const { keeper, operator } = await cluster.agent(gone);
    await eventually("it leads nothing", async () => {
      await handOver(keeper, operator, gone);
      const leads = (await serverGroup(operator))?.leader === gone || (await cluster.leader()) === gone;
      return leads ? undefined : true;
    });
  });
});
