/** A worker as the process that it is, with real VMs on this host; needs root for its networks. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import {
  type Bus,
  type BusStream,
  connectBus,
  NatsServer,
  type NodeConfig,
  openStream,
  Replica,
  serveStreams,
} from "@hearth/cluster";
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
import { NetworkExecutor, parseClusterPrefix, slotPrefix } from "@hearth/network";
import { leaveNothing } from "@hearth/process";
import { busyboxRootfs } from "./busybox-rootfs.ts";
import { createBy } from "./create-by.ts";
import { freePort } from "./free-port.ts";

const repository = join(import.meta.dirname, "../../../..");
const assets = join(repository, ".hearth/assets");
const timeoutMs = 30_000;

/** Why real machines cannot run here, or false. */
export function missing(): string | false {
  if (process.getuid?.() !== 0) return "making taps needs root";
  for (const path of [join(assets, "vmlinux"), join(assets, "initrd.cpio"), "/bin/busybox"])
    if (!existsSync(path)) return `there is no ${path}`;
  for (const [program, flag] of [
    ["qemu-system-x86_64", "--version"],
    ["mksquashfs", "-version"],
    ["nft", "--version"],
    ["nats-server", "--version"],
  ] as const) {
    try {
      execFileSync(program, [flag], { stdio: "ignore" });
    } catch {
      return `this host has no ${program}`;
    }
  }
  return false;
}

export interface TestNode extends AsyncDisposable {
  readonly bus: Bus;
  readonly config: NodeConfig;
  readonly output: string[];
  /** @param program in place of the worker's own, beside this file */
  start(program?: string): Promise<void>;
  /** Starts a worker that is to refuse; resolves with its exit code. */
  startRefused(): Promise<number | null>;
  /** Ends the worker alone; resolves with its exit code. */
  end(signal: NodeJS.Signals): Promise<number | null>;
  command(name: WorkerCommandName | "stop-all", request: unknown): Promise<unknown>;
  create(config?: object): Promise<MachineAnswer>;
  until(id: string, wanted: (fact: MachineFact) => boolean): Promise<MachineRecord>;
  state(id: string, state: string): Promise<MachineRecord>;
  stream(name: WorkerStreamName, request: unknown): Promise<BusStream>;
  vms(): number[];
  /** On the host. */
  slots(): string[];
  /** Of machines, by the ledger. */
  slotsHeld(): string[];
}

export async function startNode(lease?: NodeConfig["lease"]): Promise<TestNode> {
  const dir = mkdtempSync(join(tmpdir(), "hw-"));
  const login = { user: "test", pass: "secret" };
  const server = new NatsServer({ dir: join(dir, "nats"), port: await freePort(), ...login });
  await server.start();
  const bus = await connectBus({ servers: server.url, ...login });
  const replica = new Replica({ bus, path: join(dir, "replica.db") });
  replica.start();
  const config: NodeConfig = {
    region: "local",
    node_id: `t${randomBytes(6).toString("hex")}`,
    host_number: 1 + (randomBytes(2).readUInt16BE() % 65_000),
    prefix: "fd12:3456:789a::/48",
    data_dir: join(dir, "data"),
    run_dir: join(dir, "run"),
    nats: { servers: [server.url], ...login },
    api: { host: "127.0.0.1", port: 0 },
    assets: {
      kernel: join(assets, "vmlinux"),
      initrd: join(assets, "initrd.cpio"),
      guard: join(assets, "vm-guard"),
    },
    ...(lease === undefined ? {} : { lease }),
    accelerator: "tcg",
    capacity: { cpus: 2, memory_mb: 4096 },
    nameservers: ["fd12:3456:789a::3"],
    warnings: [],
  };
  const configPath = join(dir, "node.json");
  writeFileSync(configPath, JSON.stringify(config));
  const network = new NetworkExecutor();
  await network.applyNode({
    node: config.node_id,
    prefix: parseClusterPrefix(config.prefix),
    meshInterfaces: [],
    hostServices: [],
  });
  const serving = serveImages(bus, config.node_id, busyboxImage(dir));
  await bus.flush();
  const output: string[] = [];
  let child: ChildProcess | undefined;
  const node: TestNode = {
    bus,
    config,
    output,
    start: async (program = "../main.ts") => {
      child = spawn(process.execPath, [join(import.meta.dirname, program)], {
        env: { ...process.env, HEARTH_NODE_CONFIG: configPath },
        stdio: ["ignore", "pipe", "inherit"],
      });
      await said(child, '"msg":"serving"', output);
    },
    startRefused: async () => {
      const refused = spawn(process.execPath, [join(import.meta.dirname, "../main.ts")], {
        env: { ...process.env, HEARTH_NODE_CONFIG: configPath },
        stdio: ["ignore", "pipe", "inherit"],
      });
      refused.stdout.setEncoding("utf8").on("data", (chunk: string) => output.push(chunk));
      const limit = setTimeout(() => refused.kill("SIGKILL"), timeoutMs);
      const [code] = await once(refused, "close");
      clearTimeout(limit);
      return code;
    },
    end: async (signal) => {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return null;
      const exited = once(child, "exit");
      child.kill(signal);
      const [code] = await exited;
      return code;
    },
    command: (name, request) => bus.request(config.node_id, "worker", name, request, { timeoutMs }),
    create: async (machineConfig = {}) =>
      (await createBy(node.command, {
        ...{
          machine_id: newMachineId(randomBytes),
          instance_id: newInstanceId(randomBytes, () => Date.now()),
        },
        ...{ app: "web", name: "one", region: "local", network: 7, launch: true },
        config: { image: "local/box:1", ...machineConfig },
      })) as MachineAnswer,
    until: (id, wanted) => untilFact(replica, factKeys.machine(config.node_id, id), wanted, output),
    state: (id, state) => node.until(id, ({ record }) => record.state === state),
    stream: (name, request) =>
      openStream(bus, { nodeId: config.node_id, service: "worker", command: name }, request, { timeoutMs }),
    vms: () => vmsOf(dir),
    slots: () => readdirSync("/run/netns").filter((name) => name.startsWith(slotPrefix(config.node_id))),
    slotsHeld: () => slotsHeld(join(config.data_dir, "worker", "worker.db")),
    [Symbol.asyncDispose]: async () => {
      await node.end("SIGTERM");
      for (const pid of node.vms()) process.kill(pid, "SIGKILL");
      for (const slot of node.slots()) execFileSync("ip", ["netns", "del", slot]);
      await network.removeNode(config.node_id);
      await serving[Symbol.asyncDispose]();
      await replica.stop();
      await bus.close();
      await server.stop();
      rmSync(dir, { recursive: true, force: true });
      early[Symbol.dispose]();
    },
  };
  const early = leaveNothing(async () => await node[Symbol.asyncDispose]());
  await node.start();
  return node;
}

/** The images service of the node, with one image that it holds for nobody. */
function serveImages(bus: Bus, nodeId: string, image: NodeImage): AsyncDisposable {
  const commands = bus.serve(nodeId, "images", { release: () => null });
  const streams = serveStreams(
    bus,
    { nodeId, service: "images" },
    {
      ensure: async (stream) => await stream.write(Buffer.from(JSON.stringify({ kind: "done", image }))),
    },
  );
  return {
    [Symbol.asyncDispose]: async () => {
      await Promise.all([commands.stop(), streams.stop()]);
    },
  };
}

function busyboxImage(dir: string): NodeImage {
  return {
    reference: "docker.io/local/box:1",
    imageId: "i1",
    digest: `sha256:${"0".repeat(64)}`,
    rootfsPath: busyboxRootfs(dir),
    sizeBytes: 1,
    config: {
      entrypoint: ["/bin/sh", "-c"],
      cmd: ["trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done"],
      env: ["COLOUR=red"],
      user: "",
      workdir: "/",
      stopSignal: "SIGTERM",
      labels: {},
    },
  };
}

function slotsHeld(path: string): string[] {
  const database = new DatabaseSync(path, { readOnly: true, timeout: 5_000 });
  try {
    const rows = database.prepare("SELECT key, machine_id FROM resources WHERE kind = 'slot'").all();
    return rows
      .filter(({ machine_id }) => !String(machine_id).startsWith("pool"))
      .map(({ key }) => String(key));
  } finally {
    database.close();
  }
}

function vmsOf(dir: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const [program = "", ...args] = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0");
        return program.includes("qemu-system") && args.some((argument) => argument.includes(dir));
      } catch {
        return false; // it ended while it was looked at
      }
    })
    .map(Number);
}

function said(child: ChildProcess, text: string, output: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = "";
    child.once("exit", (code) => reject(new Error(`the worker ended with ${code}: ${seen}`)));
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      output.push(chunk);
      seen = (seen + chunk).slice(-10_000);
      if (seen.includes(text)) resolve();
    });
  });
}

function untilFact(
  replica: Replica,
  key: string,
  wanted: (fact: MachineFact) => boolean,
  output: readonly string[],
): Promise<MachineRecord> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const fact = replica.get(key)?.value as MachineFact | undefined;
      if (fact === undefined || !wanted(fact)) return;
      clearTimeout(timer);
      watching[Symbol.dispose]();
      resolve(fact.record);
    };
    const watching = replica.watch(key, look);
    const timer = setTimeout(() => {
      watching[Symbol.dispose]();
      const fact = replica.get(key)?.value as MachineFact | undefined;
      reject(new Error(`not in time: ${JSON.stringify(fact?.record.events)}\n${output.slice(-30).join("")}`));
    }, timeoutMs);
    look();
  });
}
