/** Loads between hosts over a real bus, with the rights that nodes have there. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connectBus, ensureUserKey, NatsServer, nodeUser } from "@hearth/cluster";
import { freePort, until } from "@hearth/testkit";
import { shareOverBus } from "./bus-share.ts";
import { SharedLoads } from "./shared-loads.ts";

const limits = { pauseMs: 20, wholeEveryMs: 100, leaseMs: 500 };
const limitMs = 10_000;

async function startHosts() {
  const dir = await mkdtemp(join(tmpdir(), "hearth-loads-"));
  const names = ["n1", "n2"];
  const seed = (name: string): string => join(dir, `${name}.seed`);
  const users = names.map((name) => nodeUser(name, ensureUserKey(seed(name))));
  const server = new NatsServer({ dir, port: await freePort(), users });
  await server.start();
  const logged: object[] = [];
  const hosts = await Promise.all(
    names.map(async (nodeId) => {
      const bus = await connectBus({ servers: server.url, identity: nodeId, seedPath: seed(nodeId) });
      const loads = new SharedLoads({ nowMs: () => performance.now() });
      const sharing = shareOverBus({ bus, nodeId, loads, limits, log: (fields) => logged.push(fields) });
      await bus.flush();
      return { bus, loads, sharing };
    }),
  );
  return {
    ...{ hosts, logged },
    async [Symbol.asyncDispose]() {
      for (const { sharing, bus } of hosts) {
        sharing[Symbol.dispose]();
        await bus.close();
      }
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

test("doors of two hosts know what the other has, and one that dies has nothing after its lease", async () => {
  await using region = await startHosts();
  const [one, two] = region.hosts;
  assert.ok(one !== undefined && two !== undefined);
  one.loads.own("m1", 80, 3);
  one.loads.take("door:1", { whole: false, loads: [["m1", 80, 4]] });
  await until("two knows", limitMs, async () => two.loads.of("m1", 80) === 7 || undefined);
  two.loads.own("m1", 80, 1);
  await until("one knows", limitMs, async () => one.loads.of("m1", 80) === 5 || undefined);
  assert.equal(two.loads.of("m1", 80), 7, "its own does not come back to it");
  one.sharing[Symbol.dispose]();
  await until("it is forgotten", limitMs, async () => two.loads.of("m1", 80) === 0 || undefined);
  assert.equal(one.loads.of("m1", 80), 5, "who hears no more keeps what it heard until its own look");
});

test("a door may tell what it has under its own name only, and what is no report changes nothing", async () => {
  await using region = await startHosts();
  const [one, two] = region.hosts;
  assert.ok(one !== undefined && two !== undefined);
  const report = JSON.stringify({ whole: true, loads: [["m1", 80, 900]] });
  two.bus.connection.publish("load.n1", report);
  two.bus.connection.publish("load.n2", '{"whole":true,"loads":[["m1",80,-1]]}');
  two.bus.connection.publish("load.n2", "{");
  two.bus.connection.publish("load.n2", JSON.stringify({ whole: true, loads: [["m2", 80, 1]] }));
  await until("the last one is heard", limitMs, async () => one.loads.of("m2") === 1 || undefined);
  assert.equal(one.loads.of("m1"), 0);
  assert.equal(region.logged.length, 4, "each host tells what it cannot read");
  // What a host says of itself it does not take from anybody.
  assert.equal(two.loads.of("m1"), 0);
});
