/**
 * The front door beside nginx, haproxy and caddy as Debian has them: requests, handshakes and bytes a second, p99, and
 * processor a request; memory with 10,000 idle connections; 100,000 routes, and how soon a change of one is followed.
 *
 * Each proxy is one process with one core (nginx one process, haproxy one thread, caddy GOMAXPROCS=1), the last of the
 * host; what asks and the upstream have the first. They take turns within one run, so that what else the host does
 * falls on all, and ratios are of turns that follow each other. The upstream is nginx in a namespace and its answer is
 * the same for all. `--part=small,tls` runs some parts only.
 */
import { type ChildProcess, execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { nodeArguments, readSettings, serviceProgram } from "@hearth/host-agent";
import { type IngressService, LocalCa, startIngressService } from "@hearth/ingress";
import { until } from "@hearth/testkit";
import { type Asked, bytes, handshakes, requests, residentMb, type Turn } from "./ingress/clients.ts";
import { idleMemory } from "./ingress/idle.ts";
import {
  freePorts,
  type Peer,
  type PeerWorld,
  startCaddy,
  startHaproxy,
  startNginx,
} from "./ingress/peers.ts";
import { changeRoutes, holdRoutes, type RouteWorld } from "./ingress/routes.ts";
import { startUpstream, type Upstream } from "./ingress/upstream.ts";
import { medianOf } from "./median.ts";

const domain = "example.test";
const host = `web.${domain}`;
const seconds = 4;
const mostRounds = 5;
const parts = ["small", "large", "tls", "handshake", "tcp", "idle", "routes"] as const;
type Part = (typeof parts)[number];

type Proxies = Readonly<Record<string, Peer>>;

export async function measureIngress(
  runs: number,
  flags: readonly string[],
): Promise<Record<string, unknown>> {
  const wanted = wantedParts(flags);
  const rounds = Math.min(runs, mostRounds);
  const proxyCpu = availableParallelism() - 1;
  const dir = await mkdtemp(join(tmpdir(), "hearth-bench-ingress-"));
  const children: ChildProcess[] = [];
  try {
    await using upstream = await startUpstream(dir, 0);
    const world = await makeWorld(dir, upstream, children);
    const tcp = (await freePorts()).tcp;
    await using service = await startHearth(upstream, tcp);
    const proxies: Proxies = {
      nginx: await startNginx(world),
      haproxy: await startHaproxy(world),
      caddy: await startCaddy(world),
      hearth: { http: service.http, https: service.https, tcp, pids: () => pidsOf(service) },
    };
    for (const [name, { http, pids }] of Object.entries(proxies)) {
      await ready(name, http);
      for (const pid of pids()) execFileSync("taskset", ["-a", "-p", "-c", String(proxyCpu), String(pid)]);
    }
    const turns = new Turns(proxies, rounds, { cpu: 0, seconds, hostsPath: join(dir, "hosts") });
    const url = (scheme: string, name: string, port: number, path: string): string =>
      `${scheme}://${name}:${port}/${path}`;
    const result: Record<string, unknown> = { rounds, seconds, processes: 1, connections: 32 };
    if (wanted.has("small"))
      result.small = await turns.of(["nginx", "haproxy", "caddy", "hearth"], ({ http }, asked) =>
        requests(url("http", host, http, "small"), asked),
      );
    if (wanted.has("large"))
      result.large_64k = await turns.of(["nginx", "haproxy", "caddy", "hearth"], ({ http }, asked) =>
        requests(url("http", host, http, "large"), asked),
      );
    if (wanted.has("tls"))
      result.tls = await turns.of(["nginx", "haproxy", "caddy", "hearth"], ({ https }, asked) =>
        requests(url("https", host, https, "small"), asked),
      );
    if (wanted.has("handshake"))
      result.handshake = await turns.of(["nginx", "haproxy", "caddy", "hearth"], ({ https }, asked) =>
        handshakes(`127.0.0.1:${https}`, asked),
      );
    if (wanted.has("tcp"))
      result.tcp = await turns.of(["haproxy", "hearth"], ({ tcp: port }, asked) =>
        bytes(url("http", "127.0.0.1", port, "bulk"), asked),
      );
    if (wanted.has("idle"))
      for (const name of ["nginx", "hearth"]) {
        const { http, pids } = proxies[name] as Peer;
        const mb = await idleMemory(http, host, pids);
        result[name === "hearth" ? "idle_10k_rss_mb" : `idle_10k_rss_mb_${name}`] = mb;
      }
    if (wanted.has("routes")) {
      const routes: RouteWorld = {
        ...{ service, domain, address: upstream.address },
        ports: [upstream.port, upstream.otherPort],
        statuses: [200, 203],
      };
      const heldMs = await holdRoutes(routes);
      const { p99Ms, medianMs } = await changeRoutes(routes);
      result.routes = {
        ...{ held: 100_000, held_after_ms: Math.round(heldMs), rss_mb: residentMb(pidsOf(service)) },
        ...{ change_p99_ms: p99Ms, change_median_ms: medianMs },
      };
    }
    return result;
  } finally {
    for (const child of children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
    await rm(dir, { recursive: true, force: true });
  }
}

function wantedParts(flags: readonly string[]): ReadonlySet<Part> {
  const given = flags
    .find((flag) => flag.startsWith("--part="))
    ?.slice("--part=".length)
    .split(",");
  const unknown = given?.find((one) => !(parts as readonly string[]).includes(one));
  if (unknown !== undefined) throw new Error(`no part "${unknown}"; there are ${parts.join(", ")}`);
  return new Set((given as readonly Part[] | undefined) ?? parts);
}

async function makeWorld(dir: string, upstream: Upstream, children: ChildProcess[]): Promise<PeerWorld> {
  const authority = join(dir, "authority");
  await mkdir(authority);
  const { key, cert } = await new LocalCa(authority).issue([domain, `*.${domain}`]);
  const path = (name: string): string => join(dir, name);
  await writeFile(path("hosts"), `127.0.0.1 ${host} localhost\n`);
  await writeFile(path("cert.pem"), cert);
  await writeFile(path("key.pem"), key, { mode: 0o600 });
  await writeFile(path("both.pem"), `${cert}${key}`, { mode: 0o600 });
  return {
    ...{ dir, upstream, host, children },
    ...{ certPath: path("cert.pem"), keyPath: path("key.pem"), bothPath: path("both.pem") },
  };
}

/** As the host agent starts it, with one machine: HTTP on the shared ports, and a port of its own for bytes. */
async function startHearth(upstream: Upstream, tcp: number): Promise<IngressService> {
  const service = await startIngressService({
    ...{ domain, processes: 1, nodeArguments },
    program: serviceProgram(readSettings({}, {}), "ingress"),
  });
  const ports = [
    { port: 80, handlers: ["http"] },
    { port: 443, handlers: ["tls", "http"] },
    { port: tcp, handlers: [] },
  ];
  // No limit of concurrency: none of the others has one.
  const concurrency = { type: "requests", soft_limit: 100_000 };
  const services = [{ protocol: "tcp", internal_port: upstream.port, ports, concurrency }];
  await service.put({ address: upstream.address, services });
  return service;
}

const pidsOf = (service: IngressService): number[] => [service.process.pid ?? 0, ...service.doors()];

const ready = (name: string, port: number): Promise<true> =>
  until(`${name} answers`, 30_000, async () => {
    const asked = ["-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", "-H", `Host: ${host}`];
    try {
      const status = execFileSync("curl", [...asked, `http://127.0.0.1:${port}/small`], { encoding: "utf8" });
      return status === "200" || undefined;
    } catch {
      return undefined;
    }
  });

/** Rounds in which all have their turn, and what came of them. */
class Turns {
  readonly #proxies: Proxies;
  readonly #rounds: number;
  readonly #asked: Omit<Asked, "pids">;

  constructor(proxies: Proxies, rounds: number, asked: Omit<Asked, "pids">) {
    this.#proxies = proxies;
    this.#rounds = rounds;
    this.#asked = asked;
  }

  async of(names: readonly string[], turn: (peer: Peer, asked: Asked) => Promise<Turn>) {
    const all = new Map(names.map((name) => [name, [] as Turn[]]));
    for (let round = 0; round < this.#rounds; round += 1)
      for (const name of names) {
        const peer = this.#proxies[name] as Peer;
        all.get(name)?.push(await turn(peer, { ...this.#asked, pids: peer.pids() }));
      }
    const median = (of: (one: Turn) => number, places: number) =>
      Object.fromEntries([...all].map(([name, own]) => [name, medianOf(own.map(of), places)]));
    const hearth = all.get("hearth") ?? [];
    const ratios = names
      .filter((name) => name !== "hearth")
      .map((name) => {
        const other = all.get(name) ?? [];
        const each = hearth.map(({ rate }, at) => rate / (other[at]?.rate ?? Number.NaN));
        return [`ratio_${name}`, medianOf(each, 2)];
      });
    const p99 = median(({ p99Ms }) => p99Ms, 2);
    return {
      ...Object.fromEntries(ratios),
      per_second: median(({ rate }) => rate, 0),
      cpu_us_each: median(({ cpuUs }) => cpuUs, 1),
      ...(Number.isNaN(p99.hearth) ? {} : { p99_ms: p99 }),
      rounds_per_second: Object.fromEntries(
        [...all].map(([name, own]) => [name, own.map(({ rate }) => Math.round(rate))]),
      ),
    };
  }
}
