/** A region for tests: a real nats-server, the API on a free port, and nodes whose services are fakes. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bus, connectBus, FactStore, NatsServer, Replica, type StreamHandler } from "@hearth/cluster";
import { factKeys, perMachinePrefixes } from "@hearth/machine";
import { createLogger } from "@hearth/telemetry";
import type FlyAdmin from "fly-admin/dist/client.js";
import type { CertificateSettings } from "../certificates/certificates.ts";
import { RegionalApi } from "../regional-api.ts";
import type { SessionLimits } from "../sessions/session-sockets.ts";
import { sha256 } from "../tokens/operator-tokens.ts";
import { readSigningKey } from "../tokens/signing-key.ts";
import { FakeImages } from "./fake-images.ts";
import { FakeWorker } from "./fake-worker.ts";

export const testRegion = { name: "local", prefix: "fd00:1234:5678::/48" };
export const testToken = "test-token-0123456789";
const require = createRequire(import.meta.url);
const { default: Client } = require("fly-admin/dist/client") as { default: typeof FlyAdmin.default };

export interface RegionOptions {
  readonly streams?: Readonly<Record<string, StreamHandler>>;
  /** Added to the API's clock. */
  readonly skewMs?: () => number;
  /** The monotonic clock by which nodes are heard; it stands still unless a test moves it. */
  readonly monotonicMs?: () => number;
  /** Added to the time in which the API has heard nothing. */
  readonly silentMs?: () => number;
  readonly sessionLimits?: Partial<SessionLimits>;
  readonly recheckMs?: number;
  /** Of the API of each host. */
  readonly certificates?: (nodeId: string) => CertificateSettings;
}

export interface NodeOptions {
  readonly region?: string;
  readonly freeMemoryMb?: number;
}

export interface TestRegion extends AsyncDisposable {
  readonly url: string;
  readonly bus: Bus;
  readonly facts: FactStore;
  readonly replica: Replica;
  readonly replicaPath: string;
  /** The first node. */
  readonly worker: FakeWorker;
  readonly images: FakeImages;
  readonly fly: FlyAdmin.default;
  readonly logs: Record<string, unknown>[];
  addNode(nodeId: string, options?: NodeOptions): Promise<{ worker: FakeWorker; images: FakeImages }>;
  /** With the token, and JSON as Machines API clients send it. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  createApp(name: string): Promise<void>;
  /** Another API process of the region, with a replica and a signing key of its own, and no operator's token. */
  addApi(nodeId: string): Promise<{ readonly url: string; readonly replica: Replica }>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into answers of every shape
  readonly json: any;
}

export async function startRegion(options: RegionOptions = {}): Promise<TestRegion> {
  const dir = await mkdtemp(join(tmpdir(), "hearth-regional-"));
  const login = { user: "test", pass: "pass" };
  const server = new NatsServer({ dir, port: await freePort(), ...login });
  await server.start();
  const bus = await connectBus({ servers: server.url, ...login });
  const facts = new FactStore({ bus });
  await facts.start();
  const replicaPath = join(dir, "replica.sqlite");
  const replica = new Replica({ bus, path: replicaPath, onDisk: perMachinePrefixes });
  replica.start();
  await until(() => Number.isFinite(replica.ageMs), "a replica that follows");
  const logs: Record<string, unknown>[] = [];
  const api = new RegionalApi({
    bus: () => bus,
    facts: () => facts,
    replica,
    region: testRegion,
    nodeId: "node1",
    tokenHash: sha256(testToken),
    signingKey: await readSigningKey(dir),
    nowMs: () => Date.now() + (options.skewMs?.() ?? 0),
    monotonicMs: options.monotonicMs ?? (() => options.silentMs?.() ?? 0),
    randomBytes,
    ...(options.certificates === undefined ? {} : { certificateSettings: options.certificates("node1") }),
    ...(options.sessionLimits === undefined ? {} : { sessionLimits: options.sessionLimits }),
    ...(options.recheckMs === undefined ? {} : { recheckMs: options.recheckMs }),
    logger: createLogger("regional", {}, { destination: { write: (line) => logs.push(JSON.parse(line)) } }),
  });
  const url = await api.start({ host: "127.0.0.1", port: 0 });
  const fakes: { stop(): Promise<void> }[] = [];

  const addNode: TestRegion["addNode"] = async (nodeId, node = {}) => {
    const worker = new FakeWorker({
      bus,
      facts,
      nodeId,
      ...node,
      ...(options.streams === undefined ? {} : { streams: options.streams }),
    });
    const images = new FakeImages(bus, nodeId);
    fakes.push(worker, images);
    await bus.flush();
    await worker.publishNode();
    await until(() => replica.get(factKeys.node(nodeId)) !== undefined, "the node in the replica");
    return { worker, images };
  };

  const addApi: TestRegion["addApi"] = async (nodeId) => {
    const own = await mkdtemp(join(dir, "api-"));
    const copy = new Replica({ bus, path: join(own, "replica.sqlite"), onDisk: perMachinePrefixes });
    copy.start();
    await until(() => Number.isFinite(copy.ageMs), "a replica that follows");
    const other = new RegionalApi({
      bus: () => bus,
      facts: () => facts,
      replica: copy,
      nodeId,
      region: testRegion,
      tokenHash: undefined,
      signingKey: await readSigningKey(own),
      nowMs: () => Date.now() + (options.skewMs?.() ?? 0),
      monotonicMs: options.monotonicMs ?? (() => 0),
      randomBytes,
      ...(options.certificates === undefined ? {} : { certificateSettings: options.certificates(nodeId) }),
      logger: createLogger("regional", {}, { level: "silent" }),
    });
    const started = await other.start({ host: "127.0.0.1", port: 0 });
    fakes.push({
      async stop() {
        await other.stop();
        await copy.stop();
      },
    });
    return { url: started, replica: copy };
  };

  const call: TestRegion["call"] = async (method, path, body, headers = {}) => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${testToken}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.startsWith("application/json") === true;
    const json = isJson && text !== "" ? JSON.parse(text) : undefined;
    return { status: response.status, headers: response.headers, text, json };
  };

  const first = await addNode("node1");
  return {
    url,
    bus,
    facts,
    replica,
    replicaPath,
    ...first,
    fly: new Client(testToken, { apiUrl: url, graphqlUrl: url }),
    logs,
    addNode,
    addApi,
    call,
    async createApp(name) {
      const { status, text } = await call("POST", "/v1/apps", { app_name: name, org_slug: "personal" });
      if (status !== 201) throw new Error(`${status}: ${text}`);
    },
    async [Symbol.asyncDispose]() {
      await api.stop();
      for (const fake of fakes) await fake.stop();
      await replica.stop();
      await bus.close();
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export async function until(holds: () => boolean, what: string, limitMs = 5_000): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not in ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Resolves with a number that has stopped changing: whoever makes it grow is blocked, or has ended. */
export async function untilStill(read: () => number, limitMs = 20_000): Promise<number> {
  let last = Number.NaN;
  let same = 0;
  const still = (): boolean => {
    const now = read();
    same = now === last ? same + 1 : 0;
    last = now;
    return same > 40;
  };
  await until(still, "a number that stands still", limitMs);
  return last;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
