/** A worker on a real nats-server, with simulated machines around the real guest agent. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Bus,
  type BusStream,
  connectBus,
  FactStore,
  NatsServer,
  type NodeConfig,
  openStream,
  Replica,
} from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  factKeys,
  type MachineAnswer,
  type MachineFact,
  type MachineRecord,
  type NodeImage,
  newInstanceId,
  newMachineId,
  type WorkerCommandName,
  type WorkerStreamName,
} from "@hearth/machine";
import type { FirewallElement } from "@hearth/network";
import { createLogger } from "@hearth/telemetry";
import { type SimGuestFactory, SimHost } from "@hearth/vmm";
import { openWorkerDatabase } from "../journal/database-open.ts";
import type { ImagesClient } from "../runs/images-client.ts";
import { Worker } from "../worker.ts";
import type { WorkerDeps } from "../worker-deps.ts";
import { agentGuests, SocketSimVmm } from "./agent-guest.ts";
import { createBy } from "./create-by.ts";
import { freePort } from "./free-port.ts";

export const testImage = "local/box:1";
const timeoutMs = 20_000;

export interface WorkerFixture extends AsyncDisposable {
  readonly bus: Bus;
  readonly config: NodeConfig;
  readonly host: SimHost;
  /** Those with the identity of a machine. */
  readonly slots: Set<string>;
  /** By slot, what its machine may send, as `set value`, sorted. */
  readonly egress: ReadonlyMap<string, readonly string[]>;
  /** Machines that hold an image. */
  readonly holders: Set<string>;
  /** Their holds, one an instance. */
  readonly imageHolds: Set<string>;
  readonly log: string[];
  readonly replica: Replica;
  worker: Worker;
  /** Thrown by the images of this node instead of an answer. */
  refuseImages: HearthError | undefined;
  /** Waited for by the images of this node before each answer. */
  beforeImage: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Waited for before a policy takes the place of another. */
  beforeExchange: (() => Promise<void>) | undefined;
  /** Waited for before each call of a VMM. */
  beforeCall: ((call: string, machineId: string) => Promise<void>) | undefined;
  /** Guests that boot from now on never say a word. */
  silentGuests: boolean;
  /** Lets go of the worker and starts another on the same host. */
  restart(changes?: Partial<WorkerDeps>, whileAway?: () => void): Promise<void>;
  command(name: WorkerCommandName | "stop-all", request: unknown): Promise<unknown>;
  create(config?: object, launch?: boolean): Promise<MachineAnswer>;
  /** Until the machine's fact is as wanted. */
  until(id: string, wanted: (fact: MachineFact) => boolean): Promise<MachineRecord>;
  state(id: string, state: string): Promise<MachineRecord>;
  stream(name: WorkerStreamName, request: unknown): Promise<BusStream>;
  /** What the worker's own tables say. */
  rows(sql: string): unknown[];
}

const image: NodeImage = {
  reference: "docker.io/local/box:1",
  imageId: "i1",
  digest: `sha256:${"0".repeat(64)}`,
  rootfsPath: "/dev/null",
  sizeBytes: 1,
  config: {
    entrypoint: ["/bin/sh"],
    cmd: ["-c", "exec sleep 1000"],
    env: ["COLOUR=red"],
    user: "",
    workdir: "/",
    stopSignal: "SIGTERM",
    labels: {},
  },
};

/** @param databaseDir where its database is, when not with everything else */
export async function startWorker(
  changes: Partial<WorkerDeps> = {},
  databaseDir?: string,
): Promise<WorkerFixture> {
  const dir = await mkdtemp(join(tmpdir(), "hearth-worker-"));
  const login = { user: "test", pass: "secret" };
  const server = new NatsServer({ dir: join(dir, "nats"), port: await freePort(), ...login });
  await server.start();
  const bus = await connectBus({ servers: server.url, ...login });
  const replica = new Replica({ bus, path: join(dir, "replica.db") });
  replica.start();
  const config = nodeConfig(dir, server.url, login);
  const guests = agentGuests(dir);
  const silent: SimGuestFactory = (port) => ({
    ...{ receive: () => undefined, powerButton: () => port.powerOff(), save: () => null },
  });
  const host = new SimHost({
    guest: (port, state) => (fixture.silentGuests ? silent : guests.guest)(port, state),
    now: () => performance.now(),
    beforeCall: async (call, machineId) => await fixture.beforeCall?.(call, machineId),
  });
  const built = new Set<string>();
  const slots = new Set<string>();
  const egress = new Map<string, readonly string[]>();
  const imageHolds = new Set<string>();
  const log: string[] = [];
  const database = () => openWorkerDatabase(join(databaseDir ?? dir, "worker.db"));
  const images: ImagesClient = {
    ensure: async (_reference, holder, signal) => {
      await fixture.beforeImage?.(signal);
      if (fixture.refuseImages !== undefined) throw fixture.refuseImages;
      imageHolds.add(holder);
      return image;
    },
    release: async (holder) => void imageHolds.delete(holder),
  };
  const make = (more: Partial<WorkerDeps>): Worker =>
    new Worker(
      {
        config,
        bus,
        facts: new FactStore({ bus }),
        makeVmm: () => new SocketSimVmm(host),
        network: {
          buildSlot: async ({ slot }) => void built.add(slot),
          hasSlot: async (slot) => built.has(slot),
          applySlot: async ({ slot, elements }) => {
            slots.add(slot);
            egress.set(slot, egressTexts(elements));
          },
          exchangeEgress: async ({ slot, to }) => {
            await fixture.beforeExchange?.();
            egress.set(slot, egressTexts(to));
          },
          removeElements: async () => undefined,
          removeSlot: async ({ slot }) => {
            built.delete(slot);
            slots.delete(slot);
            egress.delete(slot);
          },
        },
        images,
        clock: {
          nowMs: () => Date.now(),
          sleep: async (ms, signal) => await delay(ms, undefined, signal === undefined ? {} : { signal }),
        },
        randomBytes,
        logger: createLogger("worker", {}, { destination: { write: (line) => void log.push(line) } }),
        bootId: "boot-1",
        onCorrupt: (error) => void log.push(error.message),
        limits: { bootMs: 10_000, ...changes.limits },
        ...more,
      },
      database(),
    );
  const fixture: WorkerFixture = {
    bus,
    config,
    host,
    replica,
    slots,
    egress,
    imageHolds,
    get holders() {
      return new Set([...imageHolds].map((holder) => holder.split(".")[0] ?? ""));
    },
    log,
    worker: make(changes),
    refuseImages: undefined,
    beforeImage: undefined,
    beforeExchange: undefined,
    beforeCall: undefined,
    silentGuests: false,
    restart: async (more = {}, whileAway = () => undefined) => {
      await fixture.worker.stop();
      whileAway();
      fixture.worker = make({ ...changes, ...more });
      await fixture.worker.start();
    },
    command: (name, request) => bus.request(config.node_id, "worker", name, request, { timeoutMs }),
    create: async (machineConfig = {}, launch = true) => {
      const commit = {
        ...{
          machine_id: newMachineId(randomBytes),
          instance_id: newInstanceId(randomBytes, () => Date.now()),
        },
        ...{ app: "web", name: "one", region: "local", network: 7, launch },
        config: { image: testImage, ...machineConfig },
      };
      return (await createBy(fixture.command, commit)) as MachineAnswer;
    },
    until: (id, wanted) => untilFact(replica, factKeys.machine(config.node_id, id), wanted, log),
    state: (id, state) => fixture.until(id, ({ record }) => record.state === state),
    stream: (name, request) =>
      openStream(bus, { nodeId: config.node_id, service: "worker", command: name }, request, { timeoutMs }),
    rows: (sql) => {
      const reader = database();
      try {
        return reader.prepare(sql).all();
      } finally {
        reader.close();
      }
    },
    [Symbol.asyncDispose]: async () => {
      await fixture.worker.stop();
      guests.stop();
      await replica.stop();
      await bus.close();
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
  await fixture.worker.start();
  return fixture;
}

const egressTexts = (elements: readonly FirewallElement[]): string[] =>
  elements
    .filter(({ set }) => set.startsWith("egress_"))
    .map(({ set, value }) => `${set} ${value}`)
    .sort();

async function untilFact(
  replica: Replica,
  key: string,
  wanted: (fact: MachineFact) => boolean,
  log: readonly string[],
): Promise<MachineRecord> {
  const limit = Date.now() + timeoutMs;
  for (;;) {
    const fact = replica.get(key)?.value as MachineFact | undefined;
    if (fact !== undefined && wanted(fact)) return fact.record;
    if (Date.now() > limit)
      throw new HearthError("deadline_exceeded", {
        message: `Not in time: ${JSON.stringify(fact?.record.events)}\n${log.slice(-20).join("")}`,
      });
    await delay(5);
  }
}

function nodeConfig(dir: string, server: string, login: { user: string; pass: string }): NodeConfig {
  return {
    region: "local",
    node_id: `t${randomBytes(6).toString("hex")}`,
    host_number: 1,
    prefix: "fd12:3456:789a::/48",
    data_dir: join(dir, "data"),
    run_dir: join(dir, "run"),
    nats: { servers: [server], ...login },
    api: { host: "127.0.0.1", port: 0 },
    assets: { kernel: "/nonexistent", initrd: "/nonexistent" },
    accelerator: "tcg",
    capacity: { cpus: 2, memory_mb: 2048 },
    nameservers: [],
    warnings: [],
  };
}
