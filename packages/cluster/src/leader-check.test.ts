import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { jetstreamManager } from "@nats-io/jetstream";
import { FactStore } from "./facts.ts";
import { leaderSilenceMs } from "./leader-check.ts";
import { Replica } from "./replica.ts";
import { stateStream } from "./state-stream.ts";
import { startTestCluster } from "./testing/test-cluster.ts";

const second = 1_000_000_000;
const peer = (active: number, more: object = {}) => ({ name: "s", current: true, active, ...more });

test("a leader is as new as the others of whom it makes a majority, and a server that leads nothing never is", () => {
  const leader = "s1";
  const of = (cluster: object) => leaderSilenceMs({ cluster } as Parameters<typeof leaderSilenceMs>[0]);
  assert.equal(leaderSilenceMs({}), 0, "one server alone");
  assert.equal(
    of({ leader, replicas: [peer(3 * second), peer(second)] }),
    1_000,
    "one other is enough of three",
  );
  assert.equal(of({ leader, replicas: [peer(second), peer(second, { offline: true })] }), 1_000);
  assert.equal(of({ leader, replicas: [1, 4, 2, 3].map((age) => peer(age * second)) }), 2_000, "two of five");
  assert.equal(of({ replicas: [peer(0), peer(0)] }), Number.POSITIVE_INFINITY);
});

test("a copy that hears a leader whom nobody follows any more grows old, answered or not", {
  timeout: 120_000,
}, async () => {
  await using cluster = await startTestCluster();
  const leader = await cluster.leader();
  const bus = await cluster.connect(leader);
  await using replica = new Replica({ bus, path: join(cluster.dir, "replica.db"), streamReplicas: 3 });
  replica.start();
  const facts = new FactStore({ bus });
  const revision = await facts.publish("app.a", { n: 1 });
  await replica.waitForRevision("app.a", revision, { timeoutMs: 20_000 });
  const grown = async (what: string, holds: () => boolean) => {
    for (const limit = AbortSignal.timeout(20_000); !holds(); await delay(20))
      if (limit.aborted) throw new Error(`${what}: ${replica.ageMs} ms`);
  };
  await grown("young", () => replica.ageMs < 2_500);
  const manager = await jetstreamManager(bus.connection, { timeout: 2_000 });
  const others = [...cluster.servers].flatMap(([name, { pid }]) => (name === leader ? [] : [pid ?? 0]));
  for (const pid of others) process.kill(pid, "SIGSTOP");
  try {
    await grown("old", () => replica.ageMs > 4_000);
    // One that also led the cluster's own group goes on answering for some time; another may be silent by now.
    const said = await manager.streams.info(stateStream).catch(() => undefined);
    if (said !== undefined) assert.equal(said.cluster?.leader, leader, "it still says that it leads");
  } finally {
    for (const pid of others) process.kill(pid, "SIGCONT");
  }
  await grown("young again", () => replica.ageMs < 2_500);
});
