/**
 * One node for drills: a real nats-server, real networks and firewall, a worker process that is killed and started
 * again, and an image service that remembers who holds what.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { type Bus, connectBus, NatsServer, type NodeConfig, Replica, serveStreams } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  factKeys,
  type Inspection,
  type MachineFact,
  type NodeImage,
  type WorkerCommandName,
} from "@hearth/machine";
import { NetworkExecutor, parseClusterPrefix } from "@hearth/network";
import { leaveNothing, untilAborted } from "@hearth/process";
import { readHostInventory } from "../host/host-inventory.ts";
import { HostPaths } from "../host/host-paths.ts";
import { inspectHost } from "../host/inspector.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import { heldSlotPlan } from "../slots/slot-identity.ts";
import { agentProgram } from "../testing/agent-guest.ts";
import { busyboxRootfs } from "../testing/busybox-rootfs.ts";
import { endTree } from "../testing/end-tree.ts";
import { freePort } from "../testing/free-port.ts";
import type { WorkerLimits } from "../worker-deps.ts";
import { bundleDrillWorker } from "./drill-bundle.ts";
import type { DrillOrder } from "./drill-worker.ts";

const startLimitMs = 60_000;
const endToldMs = 1_000;
const hostLookMs = 100;
const hostLooks = 20;
const commandLimitMs = 20_000;

export type Driver = "sim" | "qemu";

export interface DrillImage {
  readonly image: NodeImage;
  readonly assets: NodeConfig["assets"];
}

export class DrillNode {
  readonly driver: Driver;
  readonly #early = leaveNothing(() => this[Symbol.asyncDispose]());
  readonly #dir = mkdtempSync(join(tmpdir(), "hd-"));
  readonly #network = new NetworkExecutor();
  /** Who holds the image. */
  readonly holders = new Set<string>();
  readonly #output: string[] = [];
  #made:
    | {
        program: string;
        bus: Bus;
        replica: Replica;
        config: NodeConfig;
        serving: AsyncDisposable;
      }
    | undefined;
  #child: ChildProcess | undefined;
  #boot = 1;

  readonly #limits: Partial<WorkerLimits>;

  readonly #nats: NodeConfig["nats"] | undefined;
  #server: NatsServer | undefined;
  #ending: Promise<void> | undefined;

  /** @param nats the bus of a region that the node joins; it starts a server of its own when absent */
  constructor(driver: Driver, limits: Partial<WorkerLimits> = {}, nats?: NodeConfig["nats"]) {
    this.driver = driver;
    this.#limits = limits;
    this.#nats = nats;
  }

  async start(makeImage: (dir: string) => DrillImage): Promise<void> {
    const login = { user: "drill", pass: randomBytes(12).toString("hex") };
    const port = await freePort();
    this.assertStays();
    const server =
      this.#nats === undefined ? new NatsServer({ dir: join(this.#dir, "nats"), port, ...login }) : undefined;
    this.#server = server;
    await server?.start();
    const nats = this.#nats ?? { servers: [server?.url ?? ""], ...login };
    const bus = await connectBus(nats);
    const { image, assets } = makeImage(this.#dir);
    const config: NodeConfig = {
      ...{ region: "local", node_id: `d${randomBytes(6).toString("hex")}`, prefix: "fd12:3456:789a::/48" },
      host_number: 1 + (randomBytes(2).readUInt16BE() % 65_000),
      data_dir: join(this.#dir, "data"),
      run_dir: join(this.#dir, "run"),
      nats,
      api: { host: "127.0.0.1", port: 0 },
      assets,
      accelerator: "tcg",
      capacity: { cpus: 64, memory_mb: 1 << 20 },
      ...{ nameservers: [], warnings: [] },
    };
    writeFileSync(join(this.#dir, "node.json"), JSON.stringify(config));
    const program = await bundleDrillWorker(this.#dir);
    const replica = new Replica({ bus, path: join(this.#dir, "replica.sqlite") });
    replica.start();
    const serving = this.#serveImages(bus, config.node_id, image);
    this.#made = { program, bus, replica, config, serving };
    await this.#applyNode();
    await bus.flush();
    await this.startWorker();
  }

  get config(): NodeConfig {
    return this.#parts().config;
  }

  /** The end of what the workers of this node wrote. */
  get log(): string {
    return this.#output.slice(-60).join("");
  }

  /** @param dieAt the visit of a crash point, counted from the start, at which the worker dies */
  async startWorker(dieAt?: number): Promise<void> {
    this.assertStays();
    const args = [join(this.#dir, "node.json"), this.driver, agentProgram, `boot-${this.#boot}`];
    const child = spawn(
      process.execPath,
      [this.#parts().program, ...args, JSON.stringify(this.#limits), `${dieAt ?? ""}`],
      { stdio: ["ignore", "pipe", "inherit", "ipc"] },
    );
    // Each command waits for the end of the worker as well as for its answer.
    child.setMaxListeners(0);
    this.#child = child;
    const serving = new Promise<void>((resolve) => {
      child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
        this.#output.push(chunk);
        if (chunk.includes('"msg":"serving"')) resolve();
      });
    });
    const limit = AbortSignal.timeout(startLimitMs);
    await Promise.race([serving, once(child, "exit", { signal: limit })]);
    if (dieAt === undefined && child.exitCode !== null) throw new Error(`the worker ended: ${this.log}`);
  }

  get workerLives(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Whether the worker is dead; what noticed its end on the bus may be ahead of the end of the process. */
  async diedNow(): Promise<boolean> {
    if (this.workerLives) await delay(200);
    return !this.workerLives;
  }

  async order(order: DrillOrder): Promise<void> {
    const child = this.#child;
    if (child === undefined) throw new Error("no worker runs");
    const died = new AbortController();
    const onExit = (): void => died.abort(new Error("the worker died"));
    child.once("exit", onExit);
    const limit = AbortSignal.any([died.signal, AbortSignal.timeout(startLimitMs)]);
    const armed = once(child, "message", { signal: limit });
    child.send(order);
    await armed;
    child.off("exit", onExit);
  }

  /** With the order `stamp`: each commit from now on. */
  onCommitted(told: (committedNs: bigint) => void): void {
    this.#child?.on("message", (message: { readonly committedNs?: string }) => {
      if (message.committedNs !== undefined) told(BigInt(message.committedNs));
    });
  }

  async endWorker(signal: NodeJS.Signals): Promise<void> {
    if (!this.workerLives || this.#child === undefined) return;
    const exited = once(this.#child, "exit", { signal: AbortSignal.timeout(startLimitMs) });
    this.#child.kill(signal);
    await exited;
  }

  /** All that a restart of the host takes away: processes, slots, the run directory, the firewall. */
  async reboot(): Promise<void> {
    await this.endWorker("SIGKILL");
    await this.#clearHost(this.config.node_id);
    rmSync(this.config.run_dir, { recursive: true, force: true });
    await this.#applyNode();
    this.#boot += 1;
  }

  /** Fails at once when the worker dies, as its caller would notice by the limit of its request. */
  async command(name: WorkerCommandName | "stop-all", request: unknown): Promise<unknown> {
    const { bus, config } = this.#parts();
    const died = new AbortController();
    this.#child?.once("exit", () => died.abort(new Error("the worker died")));
    const options = { timeoutMs: commandLimitMs, signal: died.signal };
    try {
      return await bus.request(config.node_id, "worker", name, request, options);
    } catch (error) {
      if (HearthError.from(error).code !== "unavailable") throw error;
      // Nobody serves: it died before it heard the command, and its end is told in a moment.
      await Promise.race([untilAborted(died.signal), delay(endToldMs)]);
      throw died.signal.aborted ? new HearthError("cancelled", { cause: error }) : error;
    }
  }

  /** What the cluster knows of the machine. */
  fact(machineId: string): MachineFact | undefined {
    const key = factKeys.machine(this.config.node_id, machineId);
    return this.#parts().replica.get(key)?.value as MachineFact | undefined;
  }

  get paths(): HostPaths {
    return new HostPaths(this.config);
  }

  rows(sql: string): Record<string, unknown>[] {
    const database = new DatabaseSync(this.paths.database, { readOnly: true, timeout: 5_000 });
    try {
      return database.prepare(sql).all();
    } finally {
      database.close();
    }
  }

  async inspect(inspectBy = inspectHost): Promise<Inspection> {
    const { config } = this;
    const database = new DatabaseSync(this.paths.database, { readOnly: true, timeout: 5_000 });
    try {
      const prefix = parseClusterPrefix(config.prefix);
      const identity = { nodeId: config.node_id, prefix, hostNumber: config.host_number };
      const slotPlan = (row: MachineRow, slot: string) => heldSlotPlan(identity, row, slot);
      const deps = { database, nodeId: config.node_id, paths: this.paths, slotPlan, nowMs: Date.now };
      return await inspectBy(deps);
    } finally {
      database.close();
    }
  }

  /** Also while runs of a drill are under way on it: they end with an error, as nothing is made on it any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending ??= this.#end();
    await this.#ending;
  }

  async #end(): Promise<void> {
    const made = this.#made;
    try {
      await this.endWorker("SIGKILL");
      if (made !== undefined) await this.#clearHost(made.config.node_id);
      await made?.serving[Symbol.asyncDispose]();
      await made?.replica.stop();
      await made?.bus.close();
    } finally {
      await this.#server?.stop();
      rmSync(this.#dir, { recursive: true, force: true });
      this.#early[Symbol.dispose]();
    }
  }

  /** A command that a worker had begun when it was killed goes on without it, so what it makes is looked for again. */
  async #clearHost(nodeId: string): Promise<void> {
    for (let look = 0; look < hostLooks; look += 1) {
      const { processes, network } = await readHostInventory(nodeId, this.paths);
      for (const { pid } of processes) endTree(pid);
      // What could not be removed, or went by itself meanwhile, the next look tells.
      for (const { name } of network.namespaces) spawnSync("ip", ["netns", "del", name]);
      for (const name of network.interfaces) spawnSync("ip", ["link", "del", name]);
      await this.#network.removeNode(nodeId);
      if (look > 0 && processes.length + network.namespaces.length + network.interfaces.length === 0) return;
      await delay(hostLookMs);
    }
    throw new Error(`the host is not rid of the node ${nodeId}`);
  }

  /** @throws Error when it is being taken away, or is gone */
  assertStays(): void {
    if (this.#ending !== undefined) throw new Error("the node is being taken away");
  }

  #parts() {
    if (this.#made === undefined) throw new Error("the node is not started");
    return this.#made;
  }

  #applyNode(): Promise<void> {
    this.assertStays();
    const { node_id: node, prefix } = this.config;
    const facts = { node, prefix: parseClusterPrefix(prefix), meshInterfaces: [], hostServices: [] };
    return this.#network.applyNode(facts);
  }

  #serveImages(bus: Bus, nodeId: string, image: NodeImage): AsyncDisposable {
    const release = (payload: unknown) => {
      this.holders.delete((payload as { holder: string }).holder);
      return null;
    };
    const commands = bus.serve(nodeId, "images", { release });
    const streams = serveStreams(
      bus,
      { nodeId, service: "images" },
      {
        ensure: async (stream, request) => {
          this.holders.add((request as { holder: string }).holder);
          await stream.write(Buffer.from(JSON.stringify({ kind: "done", image })));
        },
      },
    );
    return {
      [Symbol.asyncDispose]: async () => {
        await Promise.all([commands.stop(), streams.stop()]);
      },
    };
  }
}

/** Asks until it is so. The limit is for what never comes. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  limitMs: number,
): Promise<T> {
  const limit = Date.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > limit) throw new Error(`it never came to this: ${what}`);
    await delay(10);
  }
}

/** The image of a node whose machines are simulated: its programs are those of this host. */
export function hostImage(dir: string): DrillImage {
  mkdirSync(dir, { recursive: true });
  const rootfsPath = join(dir, "image.squashfs");
  writeFileSync(rootfsPath, "");
  return { assets: { kernel: "/nonexistent", initrd: "/nonexistent" }, image: imageAt(rootfsPath) };
}

/** The image of a node of real machines. */
export function busyboxImage(dir: string): DrillImage {
  const assets = join(import.meta.dirname, "../../../../.hearth/assets");
  return {
    assets: { kernel: join(assets, "vmlinux"), initrd: join(assets, "initrd.cpio") },
    image: imageAt(busyboxRootfs(dir)),
  };
}

function imageAt(rootfsPath: string): NodeImage {
  return {
    reference: "docker.io/local/box:1",
    imageId: "i1",
    digest: `sha256:${"0".repeat(64)}`,
    rootfsPath,
    sizeBytes: 1,
    config: {
      entrypoint: ["/bin/sh", "-c"],
      // It ends with what started it, so that no kill of a simulated VM leaves it on the host.
      cmd: ["trap 'exit 0' TERM INT; echo up; while kill -0 $PPID 2>/dev/null; do sleep 0.1; done"],
      env: [],
      user: "",
      workdir: "/",
      stopSignal: "SIGTERM",
      labels: {},
    },
  };
}

export const readLines = (path: string): string[] => {
  try {
    return readFileSync(path, "utf8").split("\n").filter(Boolean);
  } catch {
    return [];
  }
};
