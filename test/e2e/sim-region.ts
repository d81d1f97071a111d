/**
 * A region of simulated hosts in one place: a real nats-server, two API processes, and worker processes whose
 * machines are programs of this host under the real guest agent and the real guard. Each program writes down every
 * tenth of a second that it runs, so that `doubles` can tell whether two copies of a machine ever ran at once.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Bus,
  connectBus,
  type defaultLease,
  NatsServer,
  type NodeConfig,
  Replica,
  serveStreams,
} from "@hearth/cluster";
import { factKeys, type LeaseFact, type NodeImage } from "@hearth/machine";
import { NetworkExecutor, parseClusterPrefix, slotPrefix } from "@hearth/network";
import { freePort } from "@hearth/testkit";

const root = resolve(import.meta.dirname, "../..");
const agent = join(root, "guest-agent/target/x86_64-unknown-linux-musl/release/hearth-guest-agent");
const guard = join(root, ".hearth/assets/vm-guard");
const token = "sim-region-token-0123456789";
const startLimitMs = 60_000;

/** What a fleet has in tens of seconds, in seconds. */
export const lease: Required<typeof defaultLease> = { ttl_ms: 3_000, renew_ms: 400, margin_ms: 2_000 };

export interface SimHost {
  readonly id: string;
  readonly config: NodeConfig;
  child: ChildProcess | undefined;
  boot: number;
}

export interface Beat {
  readonly machine: string;
  readonly node: string;
  readonly pid: string;
  readonly ms: number;
}

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into answers of every shape
  readonly json: any;
}

export class SimRegion {
  readonly #dir = mkdtempSync(join(tmpdir(), "hs-"));
  readonly #login = { user: "sim", pass: randomBytes(12).toString("hex") };
  readonly #network = new NetworkExecutor();
  readonly hosts = new Map<string, SimHost>();
  readonly apis: { url: string; child: ChildProcess }[] = [];
  readonly output: string[] = [];
  #server: NatsServer | undefined;
  #bus: Bus | undefined;
  #replica: Replica | undefined;
  readonly #serving: AsyncDisposable[] = [];

  async start(hosts: number, apis = 2): Promise<void> {
    this.#server = new NatsServer({ dir: join(this.#dir, "nats"), port: await freePort(), ...this.#login });
    await this.#server.start();
    this.#bus = await connectBus({ servers: this.#server.url, ...this.#login });
    this.#replica = new Replica({ bus: this.#bus, path: join(this.#dir, "replica.db") });
    this.#replica.start();
    const ids = Array.from({ length: hosts }, () => `s${randomBytes(5).toString("hex")}`);
    await Promise.all([
      ...ids.map((id, index) => this.#addHost(id, index + 1)),
      ...Array.from({ length: apis }, () => this.startApi()),
    ]);
    await this.until("all nodes are ready", async () => {
      const { json } = await this.call("GET", "/v1/nodes");
      return json.length === hosts && json.every(({ state }: { state: string }) => state === "ready");
    });
    await this.call("POST", "/v1/apps", { app_name: "web", org_slug: "personal" });
  }

  get server(): NatsServer {
    if (this.#server === undefined) throw new Error("not started");
    return this.#server;
  }

  host(id: string): SimHost {
    const host = this.hosts.get(id);
    if (host === undefined) throw new Error(`no host ${id}`);
    return host;
  }

  /** Programs of this host stand for every image. */
  async #addHost(id: string, number: number): Promise<void> {
    const dir = join(this.#dir, id);
    mkdirSync(dir);
    const config: NodeConfig = {
      ...{ region: "local", node_id: id, prefix: "fd12:3456:789a::/48" },
      host_number: number,
      ...{ data_dir: join(dir, "data"), run_dir: join(dir, "r") },
      nats: { servers: [this.server.url], ...this.#login },
      api: { host: "127.0.0.1", port: 0 },
      assets: { kernel: "/nonexistent", initrd: "/nonexistent", guard },
      accelerator: "tcg",
      capacity: { cpus: 64, memory_mb: 4096 },
      ...{ nameservers: [], warnings: [], lease },
    };
    writeFileSync(join(dir, "node.json"), JSON.stringify(config));
    this.hosts.set(id, { id, config, child: undefined, boot: 1 });
    this.#serveImages(id, join(dir, "image.squashfs"));
    await this.#applyNode(id);
    await this.startWorker(id);
  }

  async startWorker(id: string): Promise<void> {
    const host = this.host(id);
    const program = join(root, "services/worker/src/drill/drill-worker.ts");
    const config = join(this.#dir, id, "node.json");
    const limits = JSON.stringify({ nodeFactEveryMs: 500 });
    const child = spawn(process.execPath, [program, config, "sim", agent, `boot-${host.boot}`, limits], {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    host.child = child;
    await this.#said(child, id);
  }

  async startApi(): Promise<void> {
    const dir = join(this.#dir, `api${this.apis.length}-${randomBytes(2).toString("hex")}`);
    const port = await freePort();
    const anchor = {
      ...{ region: "local", node_id: "api", prefix: "fd12:3456:789a::/48", host_number: 99, lease },
      ...{ data_dir: dir, run_dir: dir, nats: { servers: [this.server.url], ...this.#login } },
      ...{ api: { host: "127.0.0.1", port }, assets: { kernel: "", initrd: "" } },
      ...{ accelerator: "tcg", capacity: { cpus: 1, memory_mb: 1 }, nameservers: [], warnings: [] },
    };
    mkdirSync(dir);
    writeFileSync(join(dir, "token"), token);
    writeFileSync(join(dir, "node.json"), JSON.stringify(anchor));
    const child = spawn(process.execPath, [join(root, "services/regional/src/main.ts")], {
      env: { ...process.env, HEARTH_NODE_CONFIG: join(dir, "node.json") },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const api = { url: `http://127.0.0.1:${port}`, child };
    this.apis.push(api);
    await this.#said(child, "api");
  }

  /** Asks the first API that lives. */
  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const api = this.apis.find(({ child }) => child.exitCode === null && child.signalCode === null);
    const response = await fetch(`${api?.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...headers,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(20_000),
    });
    const text = await response.text();
    return { status: response.status, json: text === "" ? undefined : JSON.parse(text) };
  }

  /** Makes a machine and answers when it runs. */
  async create(config: object = {}, extra: object = {}): Promise<{ id: string; node: string }> {
    const whole = { image: "local/box:1", guest: { cpus: 1, memory_mb: 64 }, ...config };
    const make = () => this.call("POST", "/v1/apps/web/machines", { config: whole, ...extra });
    let { status, json } = await make();
    // Nothing is written while a bus that was away is compared with what was known of it.
    await this.until("the region takes writes", async () => {
      if (status === 503) ({ status, json } = await make());
      return status !== 503;
    });
    if (status !== 200) throw new Error(`${status}: ${JSON.stringify(json)}`);
    if ((extra as { skip_launch?: boolean }).skip_launch !== true) await this.untilState(json.id, "started");
    return { id: json.id, node: this.nodeOf(json.id) };
  }

  async machine(id: string): Promise<Answer> {
    return this.call("GET", `/v1/apps/web/machines/${id}`);
  }

  async untilState(id: string, state: string, limitMs = 30_000): Promise<void> {
    await this.until(`${id} is ${state}`, async () => (await this.machine(id)).json.state === state, limitMs);
  }

  /** The only node that says that it has the machine. */
  nodesOf(id: string): string[] {
    return [...this.hosts.keys()].filter((node) => this.#facts.get(factKeys.machine(node, id)) !== undefined);
  }

  nodeOf(id: string): string {
    const [node, ...others] = this.nodesOf(id);
    if (node === undefined || others.length > 0) throw new Error(`${id} is on ${this.nodesOf(id)}`);
    return node;
  }

  lease(node: string): LeaseFact | undefined {
    return this.#facts.get(factKeys.lease(node))?.value as LeaseFact | undefined;
  }

  async until(what: string, holds: () => Promise<boolean> | boolean, limitMs = 30_000): Promise<void> {
    const limit = Date.now() + limitMs;
    while (!(await holds())) {
      if (Date.now() > limit) throw new Error(`it never came to this: ${what}\n${this.#news()}`);
      await delay(50);
    }
  }

  signal(id: string, signal: NodeJS.Signals): void {
    this.host(id).child?.kill(signal);
  }

  async endWorker(id: string): Promise<void> {
    const { child } = this.host(id);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  async endApi(index: number): Promise<void> {
    const api = this.apis[index];
    if (api === undefined || api.child.exitCode !== null || api.child.signalCode !== null) return;
    const exited = once(api.child, "exit");
    api.child.kill("SIGKILL");
    await exited;
  }

  /** All that a restart of a host takes away. */
  async reboot(id: string): Promise<void> {
    await this.endWorker(id);
    await this.#clearHost(id);
    rmSync(this.host(id).config.run_dir, { recursive: true, force: true });
    await this.#applyNode(id);
    this.host(id).boot += 1;
  }

  beats(): Beat[] {
    const path = join(this.#dir, "beats");
    return readFileSync(path, { encoding: "utf8", flag: "a+" })
      .split("\n")
      .filter((line) => line.split(" ").length === 4)
      .map((line) => {
        const [machine = "", node = "", pid = "", seconds = ""] = line.split(" ");
        return { machine, node, pid, ms: Number(seconds) * 1000 };
      });
  }

  /** Where the machine has written within the last half second. */
  runsOn(id: string): string[] {
    const nowMs = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000;
    return [
      ...new Set(this.beats().flatMap((one) => (one.machine === id && nowMs - one.ms < 500 ? one.node : []))),
    ];
  }

  /** Moments at which two copies of one machine ran, as sentences. */
  doubles(): string[] {
    const runs = new Map<string, { machine: string; node: string; from: number; to: number }>();
    for (const { machine, node, pid, ms } of this.beats()) {
      const run = runs.get(`${machine} ${node} ${pid}`) ?? { machine, node, from: ms, to: ms };
      runs.set(`${machine} ${node} ${pid}`, {
        ...run,
        to: Math.max(run.to, ms),
        from: Math.min(run.from, ms),
      });
    }
    const all = [...runs.values()].sort((a, b) => a.from - b.from);
    return all.flatMap((a, index) =>
      all
        .slice(index + 1)
        .filter((b) => b.machine === a.machine && b.from <= a.to)
        .map((b) => `${a.machine} on ${a.node} until ${a.to} and on ${b.node} from ${b.from}`),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.hosts.values()) child?.kill("SIGCONT");
    await Promise.all([...this.hosts.keys()].map((id) => this.endWorker(id)));
    await Promise.all(this.apis.map((_, index) => this.endApi(index)));
    for (const id of this.hosts.keys()) {
      await this.#clearHost(id);
    }
    for (const one of this.#serving) await one[Symbol.asyncDispose]();
    await this.#replica?.stop();
    await this.#bus?.close();
    await this.#server?.stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** The end of what the processes wrote, without the requests. */
  #news(): string {
    return this.output
      .filter((line) => !line.includes('"msg":"request"'))
      .slice(-25)
      .map((line) => `${line.slice(0, 400)}\n`)
      .join("");
  }

  get #facts(): Replica {
    if (this.#replica === undefined) throw new Error("not started");
    return this.#replica;
  }

  #applyNode(id: string): Promise<void> {
    const prefix = parseClusterPrefix(this.host(id).config.prefix);
    return this.#network.applyNode({ node: id, prefix, meshInterfaces: [], hostServices: [] });
  }

  async #clearHost(id: string): Promise<void> {
    const runs = join(this.host(id).config.run_dir, "m");
    for (const name of readdirSync("/proc").filter((one) => /^\d+$/.test(one))) {
      let command = "";
      try {
        command = readFileSync(`/proc/${name}/cmdline`, "latin1");
      } catch {
        continue;
      }
      if (command.includes(`${runs}/`)) process.kill(Number(name), "SIGKILL");
    }
    for (const slot of readdirSync("/run/netns").filter((one) => one.startsWith(slotPrefix(id))))
      execFileSync("ip", ["netns", "del", slot]);
    await this.#network.removeNode(id);
  }

  #serveImages(nodeId: string, rootfsPath: string): void {
    writeFileSync(rootfsPath, "");
    // It is in the VM, so it is gone when its VMM is: also one that nobody has reaped, as its worker is stopped.
    const lives = 'read -r stat </proc/$PPID/stat 2>/dev/null && case "$stat" in *") Z "*) false;; esac';
    const beat = `read -r up rest </proc/uptime; echo "$HEARTH_MACHINE_ID $HEARTH_NODE $$ $up" >>${this.#dir}/beats`;
    const loop = `while ${lives}; do ${beat}; sleep 0.1; done`;
    const image: NodeImage = {
      ...{ reference: "docker.io/local/box:1", imageId: "i1", digest: `sha256:${"0".repeat(64)}` },
      ...{ rootfsPath, sizeBytes: 1 },
      config: {
        entrypoint: ["/bin/sh", "-c"],
        cmd: [`trap 'exit 0' TERM INT; ${loop}`],
        ...{ env: [], user: "", workdir: "/", stopSignal: "SIGTERM", labels: {} },
      },
    };
    const bus = this.#bus as Bus;
    const ensure = serveStreams(
      bus,
      { nodeId, service: "images" },
      {
        ensure: async (stream) => {
          await stream.write(Buffer.from(JSON.stringify({ kind: "done", image })));
        },
      },
    );
    const release = bus.serve(nodeId, "images", { release: () => null });
    this.#serving.push(release, { [Symbol.asyncDispose]: () => ensure.stop() });
  }

  async #said(child: ChildProcess, who: string): Promise<void> {
    const serving = Promise.withResolvers<void>();
    const take = (chunk: string): void => {
      this.output.push(...chunk.split("\n").flatMap((line) => (line === "" ? [] : `${who}: ${line}\n`)));
      if (chunk.includes('"msg":"serving"')) serving.resolve();
    };
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding("utf8").on("data", take);
    const limit = AbortSignal.timeout(startLimitMs);
    await Promise.race([
      serving.promise,
      once(child, "exit", { signal: limit }).then(() => {
        throw new Error(`${who} ended: ${this.output.slice(-20).join("")}`);
      }),
    ]);
  }
}
