/** For tests: a real nats-server, and the image service of a node on it as the process that it is. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import {
  type Bus,
  type BusStream,
  connectBus,
  NatsServer,
  type NodeConfig,
  openStream,
} from "@hearth/cluster";
import type { ImageMessage, NodeImage } from "@hearth/machine";
import type { Scratch } from "./fixtures.ts";

const limits = { timeoutMs: 5_000 };

export interface TestNode extends AsyncDisposable {
  readonly bus: Bus;
  readonly dataDir: string;
  start(): Promise<void>;
  /** Ends the service and resolves with its exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  command(name: string, payload: unknown): Promise<unknown>;
  open(name: string, payload: unknown): Promise<BusStream>;
  ensure(reference: string, holder?: string): Promise<ImageMessage[]>;
  import(path: string, reference: string): Promise<ImageMessage[]>;
}

export async function startNode(space: Scratch): Promise<TestNode> {
  const login = { user: "test", pass: "secret" };
  const server = new NatsServer({ dir: join(space.path, "nats"), port: await freePort(), ...login });
  await server.start();
  const bus = await connectBus({ servers: server.url, ...login });
  const dataDir = join(space.path, "data");
  const configPath = await space.write("node.json", JSON.stringify(nodeConfig(space, server.url, login)));
  let child: ChildProcess | undefined;
  const target = (command: string) => ({ nodeId: "n1", service: "images", command });
  const node: TestNode = {
    bus,
    dataDir,
    start: async () => {
      child = spawn(process.execPath, [join(import.meta.dirname, "main.ts")], {
        env: { ...process.env, HEARTH_NODE_CONFIG: configPath },
        stdio: ["ignore", "ignore", "pipe"],
      });
      await said(child, '"msg":"serving"');
    },
    stop: async (signal = "SIGTERM") => {
      if (child === undefined || child.exitCode !== null) return child?.exitCode ?? null;
      const exited = once(child, "exit");
      child.kill(signal);
      const [code] = await exited;
      return code;
    },
    command: (name, payload) => bus.request("n1", "images", name, payload, limits),
    open: (name, payload) => openStream(bus, target(name), payload, limits),
    ensure: async (reference, holder) => {
      const stream = await node.open("ensure", holder === undefined ? { reference } : { reference, holder });
      await stream.end();
      return await messagesOf(stream);
    },
    import: async (path, reference) => {
      const stream = await node.open("import", { reference });
      for await (const chunk of createReadStream(path)) await stream.write(chunk as Buffer);
      await stream.end();
      return await messagesOf(stream);
    },
    [Symbol.asyncDispose]: async () => {
      await node.stop("SIGKILL");
      await bus.close();
      await server.stop();
    },
  };
  await node.start();
  return node;
}

async function messagesOf(stream: BusStream): Promise<ImageMessage[]> {
  const messages: ImageMessage[] = [];
  for await (const bytes of stream) messages.push(JSON.parse(new TextDecoder().decode(bytes)));
  return messages;
}

/** The image of the last message, which must be `done`. */
export function doneImage(messages: readonly ImageMessage[]): NodeImage {
  const last = messages.at(-1);
  if (last?.kind !== "done") throw new Error(`not done: ${JSON.stringify(last)}`);
  return last.image;
}

function nodeConfig(space: Scratch, url: string, login: { user: string; pass: string }): NodeConfig {
  return {
    region: "local",
    node_id: "n1",
    host_number: 1,
    prefix: "fd00:1234:5678::/48",
    data_dir: join(space.path, "data"),
    run_dir: join(space.path, "run"),
    nats: { servers: [url], ...login },
    api: { host: "127.0.0.1", port: 0 },
    assets: { kernel: "", initrd: "" },
    accelerator: "tcg",
    capacity: { cpus: 1, memory_mb: 512 },
    nameservers: [],
    warnings: [],
  };
}

async function said(child: ChildProcess, words: string): Promise<void> {
  let log = "";
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on("data", (chunk: Buffer) => {
      log += chunk.toString("utf8");
      if (log.includes(words)) resolve();
    });
    child.once("exit", (code) => reject(new Error(`the service exited with ${code}: ${log}`)));
  });
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
