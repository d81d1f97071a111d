/**
 * The front door of one host: listeners, routes and what is between them. `start` opens the listeners, `stop` lets what
 * is under way end within its limit.
 *
 * The ports of HTTP and HTTPS are shared by all apps by name; any other port belongs to one app.
 */
import { once } from "node:events";
import type { Server as HttpServer } from "node:http";
import {
  type AddressInfo,
  type BlockList,
  createServer,
  type Server as NetServer,
  type Socket,
} from "node:net";
import { type AppFact, factKeys } from "@hearth/machine";
import type { AccessLog } from "./access-log.ts";
import { idlePlace } from "./autostop.ts";
import { Balancer } from "./balancer.ts";
import { Certificates } from "./certificates.ts";
import type { Load } from "./choose-place.ts";
import { ConnectionLimit } from "./connection-limit.ts";
import { DoorMetrics, type DoorSnapshot } from "./door-metrics.ts";
import type { Endpoint } from "./endpoint.ts";
import { FarUse } from "./far-use.ts";
import { GuestPools } from "./guest-pools.ts";
import { HttpProxy } from "./http-proxy.ts";
import { createHttpServer } from "./http-server.ts";
import type { IngressLimits } from "./limits.ts";
import type { KeyAndCertificate } from "./local-ca.ts";
import { noOtherLoads, type OtherLoads } from "./other-loads.ts";
import { PortClaims, type PortOwner } from "./port-claims.ts";
import { isTrusted, receiveProxied } from "./proxied-socket.ts";
import { type RouteFacts, RouteTable } from "./route-table.ts";
import { Targets } from "./targets.ts";
import { TcpPorts } from "./tcp-ports.ts";
import { relayConnection } from "./tcp-relay.ts";
import { serveTlsDoor } from "./tls-door.ts";
import { createTlsFront, type TlsFront } from "./tls-front.ts";
import { Waker } from "./waker.ts";

export interface IngressDeps {
  /** Already started. */
  readonly replica: RouteFacts;
  readonly nodeId: string;
  readonly domain: string;
  readonly limits: IngressLimits;
  readonly accessLog: AccessLog;
  readonly log: (fields: object, text: string) => void;
  /** Sources whose connections begin with a header of the PROXY protocol; none when absent. */
  readonly proxiedFrom?: BlockList;
  /** Makes a certificate for these names. */
  readonly issue: (names: readonly string[]) => Promise<KeyAndCertificate>;
  /** The worker that has the machine starts it. */
  readonly startMachine: (machine: Pick<Endpoint, "id" | "nodeId">) => Promise<void>;
  /** The worker of this host stops a machine. */
  readonly stopMachine: (machineId: string) => Promise<void>;
  /** The door of another host is told which of its machines are in use from here. */
  readonly tellUsed: (nodeId: string, machineIds: readonly string[]) => Promise<void>;
  readonly otherLoads?: OtherLoads;
}

export interface IngressPorts {
  readonly host: string;
  /** 0 takes any. */
  readonly http: number;
  readonly https: number;
  /** Ports of the host that no app gets. */
  readonly reserved?: readonly number[];
}

const sweepMs = 10_000;

export class Ingress {
  readonly table: RouteTable;
  readonly balancer: Balancer;
  readonly #deps: IngressDeps;
  readonly #pools: GuestPools;
  readonly #metrics: DoorMetrics;
  /** Each event is counted, and then logged. */
  readonly #accessLog: AccessLog;
  readonly #targets: Targets;
  readonly #proxy: HttpProxy;
  readonly #certificates: Certificates;
  readonly #claims: PortClaims;
  readonly #connections: ConnectionLimit;
  readonly #others: OtherLoads;
  readonly #farUse: FarUse;
  readonly #servers: NetServer[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #timers: NodeJS.Timeout[] = [];
  #plain: HttpServer | undefined;
  #front: TlsFront | undefined;
  #shown: KeyAndCertificate | undefined;
  #tcpPorts: TcpPorts | undefined;

  constructor(deps: IngressDeps) {
    const { replica, nodeId, domain, limits } = deps;
    this.#deps = deps;
    this.#metrics = new DoorMetrics(limits.metricApps);
    this.#accessLog = (event) => {
      this.#metrics.note(event);
      deps.accessLog(event);
    };
    this.table = new RouteTable(replica);
    this.#claims = new PortClaims(this.table);
    const waker = new Waker({
      nodeId,
      start: deps.startMachine,
      failed: (app) => this.balancer.retry(app),
      log: deps.log,
    });
    // The order counts: what waits is tried again when all the rest knows of the change.
    this.table.watch((app) => waker.changed(app, (id) => this.table.machine(id)?.state));
    this.#targets = new Targets(this.table, domain);
    this.#others = deps.otherLoads ?? noOtherLoads;
    this.balancer = new Balancer({
      ...{ table: this.table, nodeId, limits, others: this.#others },
      wake: (target) => waker.wake(target),
      placesOf: (app) => this.#targets.placesOf(app),
    });
    this.#farUse = new FarUse({
      ...{ nodeId, table: this.table, loads: this.#targets, tell: deps.tellUsed, log: deps.log },
    });
    this.#pools = new GuestPools(limits);
    // After all others, so that what is broken off looks for another machine among those that are left.
    this.table.watch((app) => {
      for (const { state, address, services } of this.table.ofApp(app))
        if (state === "lost")
          for (const { internalPort } of services) this.#pools.drop(address, internalPort);
    });
    this.table.watchMachines(({ before, after }) => {
      if (before?.state === "ready" && after?.state !== "ready") this.#pools.retire(before.address);
    });
    this.#connections = new ConnectionLimit(limits);
    this.#proxy = new HttpProxy({
      balancer: this.balancer,
      pools: this.#pools,
      limits,
      log: this.#accessLog,
      targets: this.#targets,
    });
    this.#certificates = new Certificates({
      domain,
      issue: deps.issue,
      nowMs: Date.now,
    });
  }

  /** @throws what `listen` throws when a port cannot be had; then it may be tried again */
  async start(ports: IngressPorts): Promise<{ readonly http: number; readonly https: number }> {
    try {
      return await this.#open(ports);
    } catch (error) {
      for (const server of this.#servers.splice(0)) server.close();
      throw error;
    }
  }

  async #open({ host, http, https, reserved = [] }: IngressPorts) {
    const { limits, log } = this.#deps;
    const options = { allowHalfOpen: true, noDelay: true };
    const secure = createServer(options, (socket) => this.#identify(socket, () => this.#serveSecure(socket)));
    const httpsPort = await this.#listen(secure, host, https);
    const listener = { publicPort: 443, httpsPort, secure: true };
    this.#front = createTlsFront({
      ...{ proxy: this.#proxy, certificates: this.#certificates, limits, log },
      alpnOf: (name) => this.#targets.find(name, 443)?.places[0]?.port?.alpn,
      listener,
    });
    const plain = createHttpServer(this.#proxy, limits, { ...listener, publicPort: 80, secure: false });
    this.#plain = plain;
    // It is given its connections, and Node begins to hold these to their limits when it is told that a server listens.
    plain.emit("listening");
    const open = createServer(options, (socket) =>
      this.#identify(socket, () => this.#admit(socket) && plain.emit("connection", socket)),
    );
    const httpPort = await this.#listen(open, host, http);
    this.#tcpPorts = new TcpPorts({
      ...{ claims: this.#claims, host, log },
      rule: {
        reserved: new Set([...reserved, httpPort, httpsPort]),
        max: limits.tcpPorts,
        createdMs: (app) => this.#createdMs(app),
      },
      admit: () => true,
      serve: (socket, port, owner) =>
        this.#identify(socket, () => this.#admit(socket) && this.#serveTcp(socket, port, owner)),
    });
    await this.#tcpPorts.start();
    await this.#keepCertificate();
    this.#every(sweepMs, () => this.#sweep());
    this.#every(limits.autostopCheckMs, () => void this.#stopIdle());
    this.#every(limits.tellUsedMs, () => void this.#farUse.tell());
    return { http: httpPort, https: httpsPort };
  }

  /** What this process has at a machine. */
  loadOf(machineId: string, internalPort: number): Readonly<Load> {
    return this.#targets.loadOf(machineId, internalPort);
  }

  /** The door of another host says so of machines of this one. */
  used(machineIds: readonly string[]): void {
    this.#farUse.heard(machineIds);
  }

  /** What this process has counted since it began, and what it has now. */
  metrics(): DoorSnapshot {
    const gauges = { open_connections: this.#sockets.size, routed_machines: this.table.size };
    return this.#metrics.snapshot(gauges, this.balancer.waiting());
  }

  /** Sentences about what does not work now. */
  problems(): string[] {
    return this.#tcpPorts?.problems() ?? [];
  }

  /** Resolves when the ports of apps are as the routes want them at this moment. */
  async portsSettled(): Promise<void> {
    await this.#tcpPorts?.look();
  }

  /** No new connection; requests under way have `drainMs`. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    const closed = this.#servers.map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    await this.#tcpPorts?.stop();
    // It closes what is idle; that it does not listen is no news.
    this.#plain?.close(() => undefined);
    this.#front?.drain();
    this.balancer.stop();
    const limit = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, this.#deps.limits.drainMs);
    await Promise.all(closed);
    clearTimeout(limit);
    await this.#pools.stop();
  }

  #every(ms: number, work: () => void): void {
    this.#timers.push(setInterval(work, ms).unref());
  }

  #createdMs(app: string): number {
    const fact = this.#deps.replica.get(factKeys.app(app))?.value as AppFact | undefined;
    return fact?.created_at_ms ?? Number.MAX_SAFE_INTEGER;
  }

  #sweep(): void {
    this.#pools.sweep();
    this.#targets.forgetLoads(performance.now() - this.#deps.limits.autostopMs);
    void this.#tcpPorts?.look();
    void this.#keepCertificate();
  }

  /** For clients that name nobody. Without it these are refused, and the others are not. */
  async #keepCertificate(): Promise<void> {
    try {
      const pair = await this.#certificates.ofDomain();
      if (pair === this.#shown) return;
      this.#front?.setFallback(pair);
      this.#shown = pair;
    } catch (error) {
      this.#deps.log({ err: error }, "there is no certificate of the domain");
    }
  }

  /** One machine of each app at most, so that each stop is judged by what is left. */
  async #stopIdle(): Promise<void> {
    const { nodeId, limits, stopMachine, log } = this.#deps;
    for (const app of this.table.apps()) {
      const places = this.#targets.placesOf(app);
      const rule = { nodeId, nowMs: performance.now(), idleMs: limits.autostopMs, others: this.#others };
      const idle = idlePlace(places, rule);
      if (idle === undefined) continue;
      const { id } = idle.endpoint;
      const own = places.filter(({ endpoint }) => endpoint.id === id);
      for (const { load } of own) load.draining = true;
      log({ event: "autostop", app, machine_id: id }, "stopping a machine that nobody needs");
      await stopMachine(id).catch((error: unknown) =>
        log({ err: error, machine_id: id }, "it was not stopped"),
      );
      for (const { load } of own) {
        load.draining = false;
        load.busyMs = performance.now();
      }
    }
  }

  #serveSecure(socket: Socket): void {
    if (!this.#admit(socket)) return;
    const find = (name: string) => () => this.#targets.find(name, 443);
    serveTlsDoor(socket, {
      limits: this.#deps.limits,
      anyPassThrough: () => this.#claims.anyPassThrough,
      passesThrough: (name) => find(name)()?.passThrough === true,
      relay: (stream, name) => {
        const asked = { stream, socket, find: find(name), protocol: "tls-passthrough" } as const;
        void relayConnection(this.#relayDeps, asked);
      },
      terminate: (stream) => this.#front?.server.emit("connection", stream),
    });
  }

  #serveTcp(socket: Socket, port: number, { app, tls }: PortOwner): void {
    const find = () => this.#targets.ofApp(app, port);
    if (!tls) {
      void relayConnection(this.#relayDeps, { stream: socket, socket, find, protocol: "tcp" });
      return;
    }
    const alpn = find()?.places[0]?.port?.alpn ?? [];
    this.#front?.secure(socket, alpn, (stream) => {
      void relayConnection(this.#relayDeps, { stream, socket, find, protocol: "tls" });
    });
  }

  get #relayDeps() {
    return { balancer: this.balancer, limits: this.#deps.limits, log: this.#accessLog };
  }

  /** First of all it is found out whose the connection is; the limits go by it. */
  #identify(socket: Socket, ready: () => unknown): void {
    const { proxiedFrom, limits } = this.#deps;
    if (proxiedFrom === undefined || !isTrusted(proxiedFrom, socket)) ready();
    else receiveProxied(socket, limits, ready);
  }

  #admit(socket: Socket): boolean {
    if (!this.#connections.admit(socket)) return false;
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    return true;
  }

  async #listen(server: NetServer, host: string, port: number): Promise<number> {
    server.listen({ host, port, backlog: 4_096 });
    await once(server, "listening");
    this.#servers.push(server);
    return (server.address() as AddressInfo).port;
  }
}
