/** The real service, with all its processes, over a real nats-server; a worker's part is played by the test. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Bus, connectBus, FactStore, type Handler, NatsServer, type NodeConfig } from "@hearth/cluster";
import { factKeys } from "@hearth/machine";
import { freePort, until } from "@hearth/testkit";
import { type FactWish, factOf } from "./facts.ts";

const limitMs = 30_000;
const source = resolve(import.meta.dirname, "../main.ts");

export interface ServiceOptions {
  readonly domain: string;
  /** By load when absent. */
  readonly processes?: number;
  /** Networks of load balancers that speak the PROXY protocol, as `address/bits`. */
  readonly proxiedFrom?: readonly string[];
  /** Another program than the sources: a bundle. */
  readonly program?: string;
  /** Of Node, before the program. */
  readonly nodeArguments?: readonly string[];
  /** What the process is started by, with its arguments, such as `ip netns exec <name>`. */
  readonly within?: readonly string[];
  readonly host?: string;
  readonly worker?: Readonly<Record<string, Handler>>;
}

export interface IngressService extends AsyncDisposable {
  readonly http: number;
  readonly https: number;
  readonly bus: Bus;
  /** The first process. */
  readonly process: ChildProcess;
  /** PEM of who signs. */
  readonly caPath: string;
  /** The socket of its metrics. */
  readonly metricsPath: string;
  /** Says that there is such a machine. */
  put(wish: FactWish): Promise<void>;
  /** Says it, of as many as there are, in the order given. */
  putAll(wishes: readonly FactWish[]): Promise<void>;
  /** Any fact. */
  publish(key: string, value: object): Promise<void>;
  /** Those that serve besides the first. */
  doors(): number[];
  /** Resolves when the first process says that so many serve, itself included. */
  serving(processes: number): Promise<void>;
  /** Each line of its log, parsed; fails on one that is no whole line. */
  log(): Readonly<Record<string, unknown>>[];
}

export async function startIngressService(options: ServiceOptions): Promise<IngressService> {
  const {
    domain,
    processes,
    proxiedFrom,
    program = source,
    nodeArguments = [],
    within = [],
    host = "127.0.0.1",
  } = options;
  const dir = await mkdtemp(join(tmpdir(), "hearth-ingress-"));
  const login = { user: "test", pass: "test" };
  await mkdir(join(dir, "nats"));
  await mkdir(join(dir, "run"));
  const nats = new NatsServer({ dir: join(dir, "nats"), port: await freePort(), ...login });
  await nats.start();
  const bus = await connectBus({ servers: nats.url, ...login, reconnectWaitMs: 50 });
  const facts = new FactStore({ bus });
  const worker = bus.serve("n1", "worker", options.worker ?? {});
  const [http, https] = [await freePort(), await freePort()];
  const config: NodeConfig = {
    ...{ region: "here", node_id: "n1", host_number: 1, prefix: "fd00:1234:5678::/48" },
    ...{ data_dir: join(dir, "data"), run_dir: join(dir, "run") },
    nats: { servers: [nats.url], ...login },
    api: { host: "127.0.0.1", port: 0 },
    assets: { kernel: "", initrd: "" },
    ...{ accelerator: "tcg", capacity: { cpus: 1, memory_mb: 1 }, nameservers: [], warnings: [] },
    ingress: {
      ...{ domain, host, http, https },
      ...(processes === undefined ? {} : { processes }),
      ...(proxiedFrom === undefined ? {} : { proxy_protocol_from: [...proxiedFrom] }),
    },
  };
  await writeFile(join(dir, "node.json"), JSON.stringify(config));
  const logPath = join(dir, "log");
  const output = openSync(logPath, "a");
  const [command = "", ...args] = [
    ...within,
    process.execPath,
    ...["--disable-warning=ExperimentalWarning", ...nodeArguments, program],
  ];
  const child = spawn(command, args, {
    env: { PATH: process.env.PATH, MALLOC_ARENA_MAX: "1", HEARTH_NODE_CONFIG: join(dir, "node.json") },
    stdio: ["ignore", output, output],
  });
  closeSync(output);
  const log = () =>
    readFileSync(logPath, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
  const service: IngressService = {
    ...{
      http,
      https,
      bus,
      process: child,
      caPath: join(dir, "data/ingress/ca.pem"),
      metricsPath: join(dir, "run/ingress.sock"),
      log,
    },
    async put(wish) {
      const fact = factOf(wish);
      await facts.publish(factKeys.machine(fact.node_id, fact.record.id), fact);
    },
    async publish(key, value) {
      await facts.publish(key, value);
    },
    async putAll(wishes) {
      const atOnce = 500;
      for (let at = 0; at < wishes.length; at += atOnce)
        await Promise.all(wishes.slice(at, at + atOnce).map((wish) => service.put(wish)));
    },
    doors() {
      const { pid } = child;
      if (pid === undefined) return [];
      const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
      return text.split(" ").flatMap((one) => (Number(one) > 0 ? [Number(one)] : []));
    },
    async serving(wanted) {
      await until(`${wanted} processes serve`, limitMs, async () => {
        const asked = await bus
          .request("n1", "ingress", "health", {}, { timeoutMs: 2_000 })
          .catch(() => ({}));
        return (asked as { readonly processes?: number }).processes === wanted || undefined;
      });
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, "exit", { signal: AbortSignal.timeout(limitMs) });
        child.kill("SIGTERM");
        await ended;
      }
      await worker.stop();
      await bus.close();
      await nats.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await until("the front door serves", limitMs, async () => {
      if (child.exitCode !== null) throw new Error(readFileSync(logPath, "utf8"));
      return log().some(({ msg }) => msg === "serving") || undefined;
    });
    await service.serving(processes ?? 1);
  } catch (error) {
    await service[Symbol.asyncDispose]();
    throw error;
  }
  return service;
}
