/**
 * From a worker's commit to its fact being readable in the replica of another host.
 *
 * Three hosts: each has a real worker process (with the simulated driver, since no machine is started) and a replica
 * in a process of its own, on its own file. The begin is the first moment after the worker's SQLite transaction has
 * returned, taken in the worker; the end is when the replica of another host tells its watchers, which is after its own
 * commit by fsync. Both are of CLOCK_MONOTONIC, which all processes of a box share. All three workers change a machine
 * at a time, one after another with a pause, as a fleet that is at work and not saturated does.
 *
 * `servers` is how many nats-servers there are: three are a JetStream cluster with three copies of each fact, and each
 * host has its own; with `--servers=1` all share one. `fsync_ms` and `fsync_p99_ms` are one small commit by fsync on
 * the same file system: a worker's commit before and a replica's within what is measured each cost one.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { connectBus, FactStore, NatsServer, type NodeConfig } from "@hearth/cluster";
import type { MachineAnswer } from "@hearth/machine";
import { freePort } from "@hearth/testkit";
import { DrillNode, eventually, hostImage, newDrillMachine, operations } from "@hearth/worker";
import { medianOf } from "./median.ts";

const hosts = 3;
const changesARun = 20;
const pauseMs = 15;
const seenLimitMs = 10_000;
const electionLimitMs = 30_000;
const login = { user: "bench", pass: "bench" };

export async function measureFacts(
  runs: number,
  flags: readonly string[] = [],
): Promise<Record<string, unknown>> {
  await using stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "hearth-facts-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const servers = await startServers(stack, directory, flags.includes("--servers=1") ? 1 : hosts);
  const seen = new Map<string, bigint>();
  const nodes: DrillNode[] = [];
  for (let host = 0; host < hosts; host += 1) {
    const nats: NodeConfig["nats"] = { servers: [servers[host % servers.length] ?? ""], ...login };
    const node = stack.use(new DrillNode("sim", {}, nats));
    await node.start(hostImage);
    nodes.push(node);
    await startReplica(stack, nats, join(directory, `replica${host}.sqlite`), (key, seenNs) =>
      seen.set(`${host} ${key}`, seenNs),
    );
  }
  const samples = (
    await Promise.all(nodes.map((node, host) => changeMachine(node, host, runs * changesARun, seen)))
  ).flat();
  samples.sort((a, b) => a - b);
  const at = (share: number): number => {
    const index = Math.min(samples.length - 1, Math.ceil(samples.length * share) - 1);
    return Math.round((samples[index] ?? Number.NaN) * 100) / 100;
  };
  return {
    hosts,
    servers: servers.length,
    samples: samples.length,
    p50_ms: at(0.5),
    p99_ms: at(0.99),
    max_ms: at(1),
    ...fsyncTimes(directory),
  };
}

/** Returns their addresses, when they hold the stream of facts between them. */
async function startServers(
  stack: AsyncDisposableStack,
  directory: string,
  count: number,
): Promise<readonly string[]> {
  const ports = await Promise.all(Array.from({ length: 2 * count }, () => freePort()));
  const [clients, routes] = [ports.slice(0, count), ports.slice(count)];
  const servers = clients.map((port, index) => {
    const name = `bus${index}`;
    const cluster = {
      ...{ name: "bench", secret: "bench", host: "127.0.0.1", port: routes[index] ?? 0 },
      routes: routes.map((route) => `127.0.0.1:${route}`),
    };
    return new NatsServer({
      ...{ dir: join(directory, name), name, port, ...login },
      ...(count === 1 ? {} : { cluster }),
    });
  });
  for (const server of servers) stack.defer(() => server.stop());
  await Promise.all(servers.map((server) => server.start()));
  const urls = servers.map(({ url }) => url);
  await using bus = await connectBus({ servers: urls, ...login, name: "bench" });
  const facts = new FactStore({ bus, replicas: count });
  await eventually(
    "the stream",
    async () => await facts.position().catch(() => undefined), // until the servers have elected who leads
    electionLimitMs,
  );
  return urls;
}

async function startReplica(
  stack: AsyncDisposableStack,
  nats: NodeConfig["nats"],
  path: string,
  onSeen: (key: string, seenNs: bigint) => void,
): Promise<void> {
  const child: ChildProcess = fork(join(import.meta.dirname, "facts-replica.ts"), [
    JSON.stringify(nats),
    path,
  ]);
  stack.defer(async () => {
    if (child.exitCode !== null) return;
    const exited = once(child, "exit");
    child.disconnect();
    await exited;
  });
  await once(child, "message");
  child.on("message", (told: { machineId: string; revision: number; seenNs: string }) =>
    onSeen(`${told.machineId} ${told.revision}`, BigInt(told.seenNs)),
  );
}

/** The times of its changes, to each of the other hosts. */
async function changeMachine(
  node: DrillNode,
  host: number,
  changes: number,
  seen: ReadonlyMap<string, bigint>,
): Promise<number[]> {
  const machine = newDrillMachine();
  await operations.find(({ name }) => name === "create-unlaunched")?.ask(node, machine);
  await node.order({ kind: "stamp" });
  const committed: bigint[] = [];
  node.onCommitted((committedNs) => committed.push(committedNs));
  const times: number[] = [];
  for (let change = 1; change <= changes; change += 1) {
    const metadata = { change: `${change}` };
    const answer = (await node.command("set-metadata", {
      machine_id: machine.id,
      metadata,
    })) as MachineAnswer;
    const key = `${machine.id} ${answer.revision}`;
    const others = Array.from({ length: hosts }, (_, index) => index).filter((index) => index !== host);
    const arrived = await Promise.all(
      others.map((other) =>
        eventually(`${key} at host ${other}`, () => seen.get(`${other} ${key}`), seenLimitMs),
      ),
    );
    const committedNs = await eventually("its commit", () => committed[change - 1], seenLimitMs);
    // The first ones also load the code of every process.
    if (change > changesARun / 2) times.push(...arrived.map((seenNs) => Number(seenNs - committedNs) / 1e6));
    await delay(pauseMs);
  }
  return times;
}

function fsyncTimes(directory: string): Record<string, number> {
  using database = new DatabaseSync(join(directory, "fsync.db"));
  database.exec(
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE bare (value INTEGER) STRICT",
  );
  const insert = database.prepare("INSERT INTO bare (value) VALUES (?)");
  const times = Array.from({ length: 300 }, (_, index) => {
    const begun = performance.now();
    insert.run(index);
    return performance.now() - begun;
  });
  const p99 = [...times].sort((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? Number.NaN;
  return { fsync_ms: medianOf(times, 3), fsync_p99_ms: Math.round(p99 * 1_000) / 1_000 };
}
