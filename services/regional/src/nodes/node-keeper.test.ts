/** What API processes decide of nodes, over a real nats-server, with workers that only keep records. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Bus, connectBus, FactStore, NatsServer, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { factKeys, type LeaseFact, type MachineFact, type PlacementFact } from "@hearth/machine";
import { createLogger } from "@hearth/telemetry";
import { freePort } from "@hearth/testkit";
import { ClusterView } from "../state/cluster-view.ts";
import { decideLease, type RegionDeps } from "../state/region-writes.ts";
import { until } from "../testing/fixture.ts";
import { defaultKeeperLimits, NodeKeeper } from "./node-keeper.ts";

let dir: string;
let server: NatsServer;
let bus: Bus;
let facts: FactStore;
const replicas: Replica[] = [];
const ttl_ms = 1_500;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "hk-"));
  const login = { user: "test", pass: "pass" };
  server = new NatsServer({ dir, port: await freePort(), ...login });
  await server.start();
  bus = await connectBus({ servers: server.url, ...login });
  facts = new FactStore({ bus });
  await facts.start();
  await facts.publish(factKeys.app("web"), { name: "web", network: 7 });
});
after(async () => {
  for (const replica of replicas) await replica.stop();
  await bus.close();
  await server.stop();
  await rm(dir, { recursive: true, force: true });
});

/** What the nodes of a test did with machines: the newest commit of each, by node. */
class Workers {
  readonly commits: { node: string; id: string; instance: string; term: number }[] = [];

  async command(node: string, name: string, request: unknown): Promise<unknown> {
    if (name !== "commit") return { ok: true };
    const { machine_id, instance_id, moved, config } = request as {
      machine_id: string;
      instance_id: string;
      config: object;
      moved: { placement_term: number };
    };
    const known = this.commits.find(({ id, term }) => id === machine_id && term === moved.placement_term);
    if (known !== undefined) assert.deepEqual([known.node, known.instance], [node, instance_id]);
    else this.commits.push({ node, id: machine_id, instance: instance_id, term: moved.placement_term });
    const fact = machineFact(node, machine_id, { config, instance_id });
    await facts.publish(factKeys.machine(node, machine_id), fact);
    return { record: fact.record, revision: 1 };
  }
}

const machineFact = (node_id: string, id: string, record: object = {}): MachineFact =>
  ({
    ...{ node_id, app: "web", revision: 1, desired: "started", egress_ip: "" },
    record: {
      ...{ id, name: id, state: "started", region: "local", cordoned: false, checks: [], events: [] },
      ...{ instance_id: "01JD0000000000000000000000", created_at: "2026-01-01T00:00:00.000Z" },
      config: { image: "i", guest: { cpus: 1, memory_mb: 64 }, restart_elsewhere: true },
      ...record,
    },
  }) as unknown as MachineFact;

async function view(clock = () => performance.now()): Promise<ClusterView> {
  const replica = new Replica({ bus, path: join(dir, `${randomBytes(4).toString("hex")}.db`), checkMs: 50 });
  replicas.push(replica);
  replica.start();
  await until(() => replica.get(factKeys.app("web")) !== undefined, "the replica");
  return new ClusterView(replica, { nowMs: Date.now, monotonicMs: clock });
}

async function api(worker: Pick<Workers, "command">, wrap = (store: FactStore) => store) {
  const seen = await view();
  const deps: RegionDeps = {
    ...{ view: seen, nowMs: Date.now, randomBytes },
    facts: () => wrap(facts),
    worker: { command: worker.command.bind(worker), change: worker.command.bind(worker) } as never,
    images: { check: async () => undefined },
    logger: createLogger("regional", {}, { destination: { write: () => undefined } }),
  };
  const limits = { ...defaultKeeperLimits, marginMs: 200, tickMs: 20, retryMs: 50 };
  const keeper = new NodeKeeper({ ...deps, monotonicMs: () => performance.now(), limits });
  return { deps, keeper, view: seen };
}

const node = (node_id: string) => ({
  ...{ node_id, region: "local", version: "1", accelerator: "tcg", total_cpus: 4, total_memory_mb: 4096 },
  ...{ free_memory_mb: 4096, machines: 0, warnings: [], published_at_ms: 0 },
});
const name = () => `n${randomBytes(4).toString("hex")}`;

async function addNode(id: string): Promise<number> {
  await facts.publish(factKeys.node(id), node(id));
  const lease: LeaseFact = { node_id: id, term: 0, state: "held", ttl_ms };
  return await facts.compareAndSet(factKeys.lease(id), lease, 0);
}

/** Renews and tells of itself as a worker does, until it is disposed of. */
async function keepUp(id: string): Promise<Disposable> {
  let revision = await addNode(id);
  const timer = setInterval(async () => {
    const lease: LeaseFact = { node_id: id, term: 0, state: "held", ttl_ms };
    revision = await facts.compareAndSet(factKeys.lease(id), lease, revision).catch(() => revision);
    await facts.publish(factKeys.node(id), node(id)).catch(() => undefined);
  }, 50);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

const leaseOf = async (id: string) => (await facts.read(factKeys.lease(id)))?.value as LeaseFact;
const placementOf = async (id: string) =>
  (await facts.read(factKeys.placement(id)))?.value as PlacementFact | undefined;
async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  const limit = Date.now() + 10_000;
  while (!(await holds())) {
    if (Date.now() > limit) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("of two API processes one gives a silent node up, and a node that renews is left alone", async () => {
  const [silent, well] = [name(), name()];
  await addNode(silent);
  using _well = await keepUp(well);
  const both = [await api(new Workers()), await api(new Workers())];
  for (const { keeper } of both) keeper.start();
  await eventually("it is fenced", async () => (await leaseOf(silent)).state === "fenced");
  for (const { keeper } of both) await keeper.stop();
  assert.deepEqual({ ...(await leaseOf(silent)) }, { node_id: silent, term: 1, state: "fenced", ttl_ms });
  assert.equal((await leaseOf(well)).state, "held");
});

test("a renewal at the last moment wins against a process that has not seen it", async () => {
  const id = name();
  const revision = await addNode(id);
  const { deps } = await api(new Workers());
  const renewed: LeaseFact = { node_id: id, term: 0, state: "held", ttl_ms };
  await facts.compareAndSet(factKeys.lease(id), renewed, revision);
  const fenced: LeaseFact = { ...renewed, term: 1, state: "fenced" };
  assert.equal(await decideLease(deps, fenced, revision), false);
  assert.equal((await leaseOf(id)).state, "held");
});

test("a process that was cut off or stopped judges nobody by the silence of that time", async () => {
  let nowMs = 1_000_000;
  const id = name();
  await addNode(id);
  const { region, replica } = await view(() => nowMs);
  await until(() => replica.ageMs < 1_000, "a replica that is current");
  region.listen();
  region.listen();
  nowMs += 3_000;
  region.listen();
  assert.equal(region.silentMs(id), 3_000);
  nowMs += 60_000; // nobody looked meanwhile
  assert.equal(region.listen(), false);
  assert.ok(region.silentMs(id) < 1_000, "the silence is counted anew");
});

test("a process that dies in any gap of a move leaves what the next one ends, with one commit of one decision", async () => {
  for (let gap = 1; gap <= 6; gap += 1) {
    const [lost, good, id] = [name(), name(), randomBytes(7).toString("hex")];
    using _good = await keepUp(good);
    await facts.publish(factKeys.node(lost), node(lost));
    await facts.publish(factKeys.machine(lost, id), machineFact(lost, id));
    await facts.publish(factKeys.lease(lost), { node_id: lost, term: 1, state: "fenced", ttl_ms });
    const workers = new Workers();
    let left = gap;
    const dies = async <T>(work: () => Promise<T>): Promise<T> => {
      left -= 1;
      if (left < 0) throw new HearthError("unavailable", { message: "this process is dead" });
      const done = await work();
      // What was done is done, and nobody hears of it.
      if (left === 0) throw new HearthError("unavailable", { message: "this process is dead" });
      return done;
    };
    const dying = (store: FactStore) =>
      ({
        compareAndWrite: (...fact: Parameters<FactStore["compareAndWrite"]>) =>
          dies(() => store.compareAndWrite(...fact)),
      }) as unknown as FactStore;
    const first = await api({ command: (...call) => dies(() => workers.command(...call)) }, dying);
    first.keeper.start();
    await eventually(
      "it has died or is done",
      async () => left <= 0 || (await placementOf(id))?.state === "moved",
    );
    await first.keeper.stop();
    const second = await api(workers);
    second.keeper.start();
    await eventually(`it has moved after gap ${gap}`, async () => (await placementOf(id))?.state === "moved");
    await second.keeper.stop();
    const made = workers.commits.filter((one) => one.id === id);
    assert.deepEqual(
      made.map((one) => one.term),
      [(await placementOf(id))?.term],
      `gap ${gap}`,
    );
    assert.notEqual(made[0]?.node, lost);
  }
});

test("a node that comes back during a move gets its lease when the move is done, with what it has to forget", async () => {
  const [back, good, moved, kept] = [
    name(),
    name(),
    randomBytes(7).toString("hex"),
    randomBytes(7).toString("hex"),
  ];
  using _good = await keepUp(good);
  await facts.publish(factKeys.node(back), node(back));
  for (const id of [moved, kept]) await facts.publish(factKeys.machine(back, id), machineFact(back, id));
  const placement: PlacementFact = {
    ...{ machine_id: moved, app: "web", node_id: good, from_node_id: back, reason: "host_lost" },
    ...{
      state: "released",
      term: 4,
      instance_id: "01JD0000000000000000000001",
      launch: true,
      moved_at_ms: 0,
    },
  };
  await facts.publish(factKeys.placement(moved), placement);
  const asks = [moved, kept];
  // It goes on asking in life; here it asks once, and is not to be taken for silent meanwhile.
  const returning = { node_id: back, term: 1, state: "returning", ttl_ms: 60_000, asks };
  await facts.publish(factKeys.lease(back), returning);
  const workers = new Workers();
  const asked = Promise.withResolvers<void>();
  const goesOn = Promise.withResolvers<void>();
  const slow: Pick<Workers, "command"> = {
    command: async (...call) => {
      asked.resolve();
      await goesOn.promise;
      return await workers.command(...call);
    },
  };
  const both = [await api(slow), await api(slow)];
  for (const { keeper } of both) keeper.start();
  await asked.promise;
  await new Promise((resolve) => setTimeout(resolve, 300)); // many looks of both, none of which may answer it
  assert.equal((await leaseOf(back)).state, "returning");
  goesOn.resolve();
  await eventually("it is back", async () => (await leaseOf(back)).state === "held");
  const { moved: told } = await leaseOf(back);
  for (const { keeper } of both) await keeper.stop();
  assert.deepEqual(told, [{ machine_id: moved, term: 4 }]);
  assert.equal((await placementOf(moved))?.state, "moved");
  assert.deepEqual(
    workers.commits.map(({ id }) => id),
    [moved],
  );
  const [done, back_] = [await facts.read(factKeys.placement(moved)), await facts.read(factKeys.lease(back))];
  assert.ok((done?.revision ?? 0) < (back_?.revision ?? 0), "the move was done before the node was answered");
  const stays = await placementOf(kept);
  assert.deepEqual([stays?.state, stays?.node_id], ["stays", back]);
});
