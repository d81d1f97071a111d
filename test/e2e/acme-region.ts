/**
 * A region for tests of certificates: a real nats-server, and on each host the real processes of its API and its front
 * door, at a loopback address of its own. What a worker would say of its machines, the test says.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Bus, connectBus, ensureSealKey, FactStore, NatsServer, type NodeConfig } from "@hearth/cluster";
import { factKeys, type MachineFact, type NodeKeyFact } from "@hearth/machine";
import { freePort, type Pebble, repositoryRoot, startPebble, until } from "@hearth/testkit";

const limitMs = 60_000;
const token = "test-token-0123456789";
const login = { user: "test", pass: "test" };
export const domain = "apps.example.test";
const run = promisify(execFile);

export interface AcmeHost {
  readonly nodeId: string;
  readonly address: string;
  readonly caPath: string;
  readonly regional: ChildProcess;
  readonly ingress: ChildProcess;
  api(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ readonly status: number; readonly json: Json }>;
  /** What the command writes. @throws when it fails */
  hearth(...words: string[]): Promise<string>;
  log(service: "regional" | "ingress"): string;
  kill(service: "regional" | "ingress"): Promise<void>;
  restart(service: "regional" | "ingress", env?: NodeJS.ProcessEnv): Promise<void>;
}
// biome-ignore lint/suspicious/noExplicitAny: a test looks into answers of every shape
export type Json = any;

export interface AcmeRegionOptions {
  readonly hosts: number;
  /** None: each host is its own authority. */
  readonly acme?: boolean | { readonly challenge: "http-01" | "tls-alpn-01" };
  readonly external?: Readonly<Record<string, string>>;
  /** Of its certificates. */
  readonly lifeSeconds?: number;
  /** Names of apps, each with a web server on every host; `demo` when absent. */
  readonly apps?: readonly string[];
}

export interface AcmeRegion extends AsyncDisposable {
  readonly hosts: readonly AcmeHost[];
  readonly pebble: Pebble;
  readonly http: number;
  readonly https: number;
  readonly facts: FactStore;
  readonly bus: Bus;
  readonly directory: string;
  /** As curl says it: what it wrote, and its exit code. The name leads to this host. */
  curl(
    host: AcmeHost,
    url: string,
    ...more: string[]
  ): Promise<{ readonly out: string; readonly code: number }>;
}

export async function startAcmeRegion(options: AcmeRegionOptions): Promise<AcmeRegion> {
  const directory = await mkdtemp(join(tmpdir(), "hearth-acme-"));
  const stack = new AsyncDisposableStack();
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  try {
    const nats = new NatsServer({ dir: join(directory, "nats"), port: await freePort(), ...login });
    await nats.start();
    stack.defer(() => nats.stop());
    const bus: Bus = await connectBus({ servers: nats.url, ...login });
    stack.defer(() => bus.close());
    const facts = new FactStore({ bus });
    await facts.start();
    const [http, https] = [await freePort(), await freePort()];
    const { external, lifeSeconds } = options;
    const wish = { ...(external && { external }), ...(lifeSeconds === undefined ? {} : { lifeSeconds }) };
    const pebble = stack.use(
      await startPebble(join(directory, "pebble"), { httpPort: http, tlsPort: https, ...wish }),
    );
    const hosts: AcmeHost[] = [];
    for (let number = 1; number <= options.hosts; number += 1) {
      const made = { options, directory, pebble, nats: nats.url, http, https, number, facts };
      const host = await startHost(made);
      stack.defer(() => host.kill("ingress"));
      stack.defer(() => host.kill("regional"));
      hosts.push(host);
    }
    const [first] = hosts;
    if (first === undefined) throw new Error("no host");
    const guest = createServer((_request, response) => response.end("hello from a guest\n"));
    stack.defer(() => closed(guest));
    guest.listen(0, "127.0.0.1");
    await once(guest, "listening");
    for (const app of options.apps ?? ["demo"]) {
      // An API that has just begun writes nothing until its copy is level with the region.
      await until(`the app ${app}`, limitMs, async () => {
        const made = await first.api("POST", "/v1/apps", { app_name: app, org_slug: `org-of-${app}` });
        if (made.status === 201) return true;
        if (made.status !== 503) throw new Error(JSON.stringify(made.json));
        return undefined;
      });
      for (const { nodeId } of hosts)
        await facts.publish(...machineOf(nodeId, app, (guest.address() as AddressInfo).port));
    }
    const kept = stack.move();
    return {
      ...{ hosts, pebble, http, https, facts, bus, directory },
      async curl(host, url, ...more) {
        const { hostname, protocol } = new URL(url);
        const port = protocol === "https:" ? https : http;
        const to = ["--connect-to", `${hostname}::${host.address}:${port}`];
        return await run("curl", ["-sS", "--max-time", "20", ...to, ...more, url]).then(
          ({ stdout }) => ({ out: stdout, code: 0 }),
          (error: { readonly code: number; readonly stderr: string; readonly stdout: string }) => ({
            out: error.stdout + error.stderr,
            code: error.code,
          }),
        );
      },
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

interface HostWish {
  readonly options: AcmeRegionOptions;
  readonly directory: string;
  readonly pebble: Pebble;
  readonly nats: string;
  readonly http: number;
  readonly https: number;
  readonly number: number;
  readonly facts: FactStore;
}

async function startHost(wish: HostWish): Promise<AcmeHost> {
  const { options, directory, pebble, nats, http, https, number, facts } = wish;
  const nodeId = `host${number}`;
  const address = `127.0.0.${number + 10}`;
  const dataDir = join(directory, nodeId);
  await mkdir(dataDir, { recursive: true });
  await writeFile(join(dataDir, "token"), token);
  const sealSeed = join(dataDir, "seal.seed");
  const key: NodeKeyFact = {
    ...{ node_id: nodeId, host_number: number, roles: ["worker", "api"], node_key: "U", address },
    ...{ seal_key: ensureSealKey(sealSeed), version: "0.1.0", joined_at_ms: 0 },
  };
  await facts.publish(factKeys.nodeKey(nodeId), key);
  const apiPort = await freePort();
  const { acme = true } = options;
  const [kid] = Object.keys(options.external ?? {});
  const eabPath = join(dataDir, "eab.key");
  if (kid !== undefined) await writeFile(eabPath, options.external?.[kid] ?? "");
  const config: NodeConfig = {
    ...{ region: "local", node_id: nodeId, host_number: number, prefix: "fd00:1234:5678::/48" },
    ...{ data_dir: dataDir, run_dir: dataDir },
    nats: { servers: [nats], ...login },
    api: { host: "127.0.0.1", port: apiPort },
    assets: { kernel: "/none", initrd: "/none" },
    accelerator: "tcg",
    capacity: { cpus: 1, memory_mb: 1024 },
    nameservers: [],
    dns: { upstreams: [pebble.resolver] },
    ingress: { domain, host: address, http, https },
    certificates: {
      seal_seed_path: sealSeed,
      ...(acme === false
        ? {}
        : {
            acme: {
              ...{ directory: pebble.directory, email: "ops@example.test", ca_path: pebble.caPath },
              ...(acme === true ? {} : acme),
              ...(kid === undefined ? {} : { eab: { kid, key_path: eabPath } }),
            },
          }),
    },
    warnings: [],
  };
  const configPath = join(dataDir, "node.json");
  await writeFile(configPath, JSON.stringify(config));
  const logOf = (service: string): string => readFileSync(join(dataDir, `${service}.log`), "utf8");
  const begin = (service: "regional" | "ingress", env: NodeJS.ProcessEnv = {}): ChildProcess => {
    const log = openSync(join(dataDir, `${service}.log`), "a");
    const main = join(repositoryRoot, "services", service, "src/main.ts");
    const variables = { ...process.env, HEARTH_NODE_CONFIG: configPath, ...env };
    const child = spawn(process.execPath, [main], { stdio: ["ignore", log, log], env: variables });
    closeSync(log);
    return child;
  };
  const processes = { regional: begin("regional"), ingress: begin("ingress") };
  const serves = (service: "regional" | "ingress", times = 1) =>
    until(`${service} of ${nodeId}`, limitMs, async () => {
      const { exitCode } = processes[service];
      if (exitCode !== null) throw new Error(`${service} ended: ${logOf(service)}`);
      return logOf(service).split('"msg":"serving"').length > times ? true : undefined;
    });
  await Promise.all([serves("regional"), serves("ingress")]);
  const host: AcmeHost = {
    ...{ nodeId, address, caPath: join(dataDir, "ingress/ca.pem"), log: logOf },
    get regional() {
      return processes.regional;
    },
    get ingress() {
      return processes.ingress;
    },
    async api(method, path, body) {
      const answer = await fetch(`http://127.0.0.1:${apiPort}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const said = await answer.text();
      return { status: answer.status, json: said === "" ? undefined : JSON.parse(said) };
    },
    async hearth(...words) {
      const env = { ...process.env, HEARTH_API_URL: `http://127.0.0.1:${apiPort}`, HEARTH_TOKEN: token };
      return (await run(join(repositoryRoot, "cli/bin/hearth"), words, { env })).stdout;
    },
    async kill(service) {
      const child = processes[service];
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    },
    async restart(service, env = {}) {
      const times = logOf(service).split('"msg":"serving"').length;
      await host.kill(service);
      processes[service] = begin(service, env);
      await serves(service, times);
    },
  };
  return host;
}

function machineOf(node_id: string, app: string, port: number): [string, MachineFact] {
  const number = Number(node_id.replace(/\D/g, ""));
  const id = `${number}${Buffer.from(app).toString("hex")}`.padEnd(14, "0").slice(0, 14);
  const at = new Date(0).toISOString();
  const services = [
    {
      ...{ protocol: "tcp", internal_port: port },
      ports: [
        { port: 80, handlers: ["http"], force_https: app === "forced" },
        { port: 443, handlers: ["tls", "http"] },
      ],
    },
  ];
  const record = {
    ...{ id, name: `m${number}`, state: "started", region: "local", instance_id: "01", version: "01" },
    ...{ private_ip: "127.0.0.1", created_at: at, updated_at: at, checks: [], events: [], cordoned: false },
    config: { image: "x", services },
  };
  const fact = { node_id, app, revision: 1, egress_ip: "127.0.0.1", record } as unknown as MachineFact;
  return [factKeys.machine(node_id, id), fact];
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
