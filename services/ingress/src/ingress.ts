/**
 * The front door of one host: listeners, routes and what is between them. `start` opens the listeners, `stop` lets what
 * is under way end within its limit.
 *
 * The ports of HTTP and HTTPS are shared by all apps by name; any other port belongs to one app. One process of a host
 * has the listeners and counts what they take. It may hand a connection over to another process, whose front door
 * begins by `serve` and has none.
 */
import type { BlockList, Socket } from "node:net";
import { type AppFact, factKeys } from "@hearth/machine";
import { Autostop } from "./choosing/autostop.ts";
import { Balancer } from "./choosing/balancer.ts";
import type { Load } from "./choosing/choose-place.ts";
import { FarUse } from "./choosing/far-use.ts";
import { noOtherLoads, type OtherLoads } from "./choosing/other-loads.ts";
import { Waker } from "./choosing/waker.ts";
import type { Arrival } from "./doors/door-messages.ts";
import { GuestPools } from "./guests/guest-pools.ts";
import { HttpProxy } from "./http/http-proxy.ts";
import { createHttp1Front, type Http1Front } from "./http/http-server.ts";
import type { IngressLimits } from "./limits.ts";
import { type IngressPorts, Listeners, type ListenersDeps } from "./listeners.ts";
import { CustomDomains } from "./routes/custom-domains.ts";
import type { Endpoint } from "./routes/endpoint.ts";
import { PortClaims } from "./routes/port-claims.ts";
import { type RouteFacts, RouteTable } from "./routes/route-table.ts";
import { Targets } from "./routes/targets.ts";
import { clientAddress } from "./tcp/client-address.ts";
import { ConnectionLimit } from "./tcp/connection-limit.ts";
import { isTrusted, receiveProxied } from "./tcp/proxied-socket.ts";
import { relayConnection } from "./tcp/tcp-relay.ts";
import type { AccessLog } from "./telemetry/access-log.ts";
import { DoorMetrics, type DoorSnapshot } from "./telemetry/door-metrics.ts";
import { Certificates } from "./tls/certificates.ts";
import { Challenges } from "./tls/challenges.ts";
import { domainCertificate } from "./tls/domain-certificates.ts";
import type { KeyAndCertificate } from "./tls/local-ca.ts";
import { alertTo } from "./tls/tls-alert.ts";
import { serveTlsDoor } from "./tls/tls-door.ts";
import { createTlsFront, type TlsFront } from "./tls/tls-front.ts";

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
  /** Opens a private key of cluster state, which was sealed for this purpose; nothing is opened when absent. */
  readonly openKey?: (purpose: string, sealed: string) => string | undefined;
  /** The worker that has the machine starts it. */
  readonly startMachine: (machine: Pick<Endpoint, "id" | "nodeId">) => Promise<void>;
  /** The worker of this host stops a machine. */
  readonly stopMachine: (machineId: string) => Promise<void>;
  /** The door of another host is told which of its machines are in use from here. */
  readonly tellUsed: (nodeId: string, machineIds: readonly string[]) => Promise<void>;
  /** What others have at machines; nothing when absent. */
  readonly otherLoads?: OtherLoads;
  /** Told of each change of what this process has at a service of a machine. */
  readonly loadChanged?: (machineId: string, internalPort: number, active: number) => void;
  /** Before this host stops a machine, and when it was not stopped. */
  readonly draining?: (machineId: string, isDraining: boolean) => void;
  /** Gives a connection to another process; this one serves all when absent. */
  readonly handOver?: ListenersDeps["handOver"];
  /** 48 bytes, the same for all processes of a host: any of them takes up a session of TLS. Its own when absent. */
  readonly ticketKeys?: Buffer;
}

const sweepMs = 10_000;
const alerts = {
  known: undefined,
  missing: "certificate_unobtainable",
  unknown: "unrecognized_name",
} as const;

export class Ingress {
  readonly table: RouteTable;
  readonly balancer: Balancer;
  readonly challenges: Challenges;
  readonly #deps: IngressDeps;
  readonly #pools: GuestPools;
  readonly #metrics: DoorMetrics;
  /** Each event is counted, and then logged. */
  readonly #accessLog: AccessLog;
  readonly #targets: Targets;
  readonly #proxy: HttpProxy;
  readonly #certificates: Certificates;
  readonly #claims: PortClaims;
  readonly #listeners: Listeners;
  /** Of clients that another speaks for. */
  readonly #proxied: ConnectionLimit;
  readonly #others: OtherLoads;
  readonly #farUse: FarUse;
  readonly #autostop: Autostop;
  readonly #sockets = new Set<Socket>();
  readonly #timers: NodeJS.Timeout[] = [];
  #emptied: (() => void) | undefined;
  #plain: Http1Front | undefined;
  #front: TlsFront | undefined;
  #shown: KeyAndCertificate | undefined;

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
    const domains = new CustomDomains(replica);
    const { openKey = () => undefined } = deps;
    this.challenges = new Challenges(replica, openKey);
    this.#targets = new Targets(this.table, domain, domains);
    this.#others = deps.otherLoads ?? noOtherLoads;
    this.balancer = new Balancer({
      ...{ table: this.table, nodeId, limits, others: this.#others },
      ...(deps.loadChanged === undefined ? {} : { loadChanged: deps.loadChanged }),
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
    this.#listeners = new Listeners({
      ...{ claims: this.#claims, limits, log: deps.log },
      ...(deps.handOver === undefined ? {} : { handOver: deps.handOver }),
      createdMs: (app) => this.#createdMs(app),
      isProxied: (socket) => this.#isProxied(socket),
      serve: (socket, arrival) => this.take(socket, arrival),
    });
    this.#proxied = new ConnectionLimit(limits);
    this.#autostop = new Autostop({
      ...{ nodeId, table: this.table, targets: this.#targets, others: this.#others },
      ...{ idleMs: limits.autostopMs, stop: deps.stopMachine, log: deps.log },
      ...(deps.draining === undefined ? {} : { draining: deps.draining }),
    });
    this.#proxy = new HttpProxy({
      balancer: this.balancer,
      pools: this.#pools,
      limits,
      log: this.#accessLog,
      targets: this.#targets,
      proofFor: (host, path) => this.challenges.textFor(host, path),
    });
    this.#certificates = new Certificates({
      domain,
      issue: deps.issue,
      ofCustom: (name) => {
        const claim = domains.claimOf(name);
        return claim && domainCertificate(claim, { replica, openKey, nowMs: Date.now });
      },
      nowMs: Date.now,
    });
  }

  /** @throws what `listen` throws when a port cannot be had; then it may be tried again */
  async start(ports: IngressPorts): Promise<{ readonly http: number; readonly https: number }> {
    const { limits } = this.#deps;
    const open = await this.#listeners.open(ports);
    await this.serve(open.https);
    await this.#listeners.openAppPorts(ports, [open.http, open.https]);
    this.#every(limits.autostopCheckMs, () => void this.#autostop.look());
    this.#every(limits.tellUsedMs, () => void this.#farUse.tell());
    return open;
  }

  /** Without listeners: for connections that `take` is given. */
  async serve(httpsPort: number): Promise<void> {
    const { limits, log, ticketKeys } = this.#deps;
    const listener = { publicPort: 443, httpsPort, secure: true };
    this.#front = createTlsFront({
      ...{ proxy: this.#proxy, certificates: this.#certificates, limits, log },
      alpnOf: (name) => this.#targets.find(name, 443)?.places[0]?.port?.alpn,
      ...(ticketKeys === undefined ? {} : { ticketKeys }),
      listener,
    });
    this.#plain = createHttp1Front(this.#proxy, limits, { ...listener, publicPort: 80, secure: false });
    await this.#keepCertificate();
    this.#every(sweepMs, () => this.#sweep());
  }

  /** Serves a connection that another process has admitted. */
  take(socket: Socket, arrival: Arrival): void {
    this.#sockets.add(socket);
    socket.once("close", () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#emptied?.();
    });
    if (!this.#isProxied(socket)) {
      this.#serve(socket, arrival);
      return;
    }
    receiveProxied(socket, this.#deps.limits, () => {
      const over = this.#proxied.admit(socket, clientAddress(socket));
      if (over === undefined) return;
      socket.once("close", over);
      this.#serve(socket, arrival);
    });
  }

  /** Another machine is to be found for new requests; that of another process of this host. */
  setDraining(machineId: string, isDraining: boolean): void {
    for (const load of this.#loadsOf(machineId)) load.draining = isDraining;
  }

  /** What others have at a service has changed: it was busy, and may have room again. */
  othersChanged(machineId: string, internalPort: number): void {
    const machine = this.table.machine(machineId);
    if (machine === undefined) return;
    // Of another host's machine as well: that host is told of what any process of this one had for it.
    this.#targets.loadOf(machineId, internalPort).busyMs = performance.now();
    this.balancer.retry(machine.app);
  }

  /** Those that this process serves. */
  get connections(): number {
    return this.#sockets.size;
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
    const gauges = { open_connections: this.#listeners.connections, routed_machines: this.table.size };
    return this.#metrics.snapshot(gauges, this.balancer.waiting());
  }

  /** Sentences about what does not work now. */
  problems(): string[] {
    return this.#listeners.problems();
  }

  /** Resolves when the ports of apps are as the routes want them at this moment. */
  async portsSettled(): Promise<void> {
    await this.#listeners.look();
  }

  /** No new connection; requests under way have `drainMs`. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    const closed = this.#listeners.close();
    this.#plain?.drain();
    this.#front?.drain();
    this.balancer.stop();
    const limit = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, this.#deps.limits.drainMs);
    const emptied = new Promise<void>((resolve) => {
      this.#emptied = resolve;
      if (this.#sockets.size === 0) resolve();
    });
    await Promise.all([closed, emptied]);
    clearTimeout(limit);
    this.#pools.stop();
  }

  #every(ms: number, work: () => void): void {
    this.#timers.push(setInterval(work, ms).unref());
  }

  #loadsOf(machineId: string): Load[] {
    const services = this.table.machine(machineId)?.services ?? [];
    return services.map(({ internalPort }) => this.#targets.loadOf(machineId, internalPort));
  }

  #createdMs(app: string): number {
    const fact = this.#deps.replica.get(factKeys.app(app))?.value as AppFact | undefined;
    return fact?.created_at_ms ?? Number.MAX_SAFE_INTEGER;
  }

  #sweep(): void {
    this.#pools.sweep();
    this.#targets.forgetLoads(performance.now() - this.#deps.limits.autostopMs);
    void this.#listeners.look();
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

  #isProxied(socket: Socket): boolean {
    const { proxiedFrom } = this.#deps;
    return proxiedFrom !== undefined && isTrusted(proxiedFrom, socket);
  }

  #serve(socket: Socket, arrival: Arrival): void {
    if (arrival.kind === "http") this.#plain?.take(socket);
    else if (arrival.kind === "https") this.#serveSecure(socket);
    else this.#serveTcp(socket, arrival);
  }

  #serveSecure(socket: Socket): void {
    const find = (name: string) => () => this.#targets.find(name, 443);
    serveTlsDoor(socket, {
      limits: this.#deps.limits,
      alertFor: (name) => alerts[this.#certificates.stateOf(name)],
      passesThrough: (name) => this.#claims.anyPassThrough && find(name)()?.passThrough === true,
      relay: (stream, name) => {
        const asked = { stream, socket, find: find(name), protocol: "tls-passthrough" } as const;
        void relayConnection(this.#relayDeps, asked);
      },
      prove: (stream, name) => this.#prove(stream, name),
      terminate: (stream) => this.#front?.server.emit("connection", stream),
    });
  }

  #prove(socket: Socket, name: string): void {
    const proof = this.challenges.contextFor(name);
    const { log, limits } = this.#deps;
    log({ event: "acme_proof", name, shown: proof !== undefined }, "an authority asked for a proof");
    if (proof === undefined) alertTo(socket, "no_application_protocol", limits.lingerMs);
    else this.#front?.prove(socket, proof);
  }

  #serveTcp(socket: Socket, { port, app, tls }: Extract<Arrival, { readonly kind: "tcp" }>): void {
    const find = () => this.#targets.ofApp(app, port);
    if (!tls) {
      void relayConnection(this.#relayDeps, { stream: socket, socket, find, protocol: "tcp" });
      // While there is no machine yet, so that a client that leaves is noticed.
      socket.read(0);
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
}
