/**
 * The front door of one host: listeners, routes and what is between them. `start` opens the listeners, `stop` lets what
 * is under way end within its limit.
 *
 * A port that cannot be had is no reason to be without the others: the door says so, and tries again.
 */
import { once } from "node:events";
import type { AddressInfo, Server as NetServer, Socket } from "node:net";
import type { Replica } from "@hearth/cluster";
import type { AccessLog } from "./access-log.ts";
import { Balancer, Refused } from "./balancer.ts";
import { ConnectionLimit } from "./connection-limit.ts";
import { GuestPools } from "./guest-pools.ts";
import { HttpProxy } from "./http-proxy.ts";
import { createHttpServer } from "./http-server.ts";
import type { IngressLimits } from "./limits.ts";
import { RouteTable } from "./route-table.ts";
import { Targets } from "./targets.ts";
import { Waker } from "./waker.ts";

export interface IngressDeps {
  /** Already started. */
  readonly replica: Pick<Replica, "get" | "scan" | "watch">;
  readonly nodeId: string;
  readonly domain: string;
  readonly limits: IngressLimits;
  readonly accessLog: AccessLog;
  readonly log: (fields: object, text: string) => void;
  /** The worker of this host starts a machine. */
  readonly startMachine: (machineId: string) => Promise<void>;
  readonly stopMachine: (machineId: string) => Promise<void>;
}

export interface IngressPorts {
  readonly host: string;
  /** 0 takes any. */
  readonly http: number;
}

const sweepMs = 10_000;

export class Ingress {
  readonly table: RouteTable;
  readonly balancer: Balancer;
  readonly #deps: IngressDeps;
  readonly #pools: GuestPools;
  readonly #targets: Targets;
  readonly #proxy: HttpProxy;
  readonly #connections: ConnectionLimit;
  readonly #servers: NetServer[] = [];
  readonly #sockets = new Set<Socket>();
  #sweeping: NodeJS.Timeout | undefined;

  constructor(deps: IngressDeps) {
    const { replica, nodeId, domain, limits } = deps;
    this.#deps = deps;
    this.table = new RouteTable(replica);
    const waker = new Waker({
      nodeId,
      start: deps.startMachine,
      failed: (app, why) => this.balancer.refuse(app, new Refused("wake_failed", why)),
      log: deps.log,
    });
    this.table.watch((app) => waker.changed(app, (id) => this.table.machine(id)?.state));
    this.#targets = new Targets(this.table, domain);
    this.balancer = new Balancer({ table: this.table, nodeId, limits, wake: (target) => waker.wake(target) });
    this.#pools = new GuestPools(limits);
    this.#connections = new ConnectionLimit(limits);
    this.#proxy = new HttpProxy({
      balancer: this.balancer,
      pools: this.#pools,
      limits,
      log: deps.accessLog,
      targets: this.#targets,
    });
  }

  /** @throws what `listen` throws when a port cannot be had */
  async start({ host, http }: IngressPorts): Promise<{ readonly http: number }> {
    const { limits } = this.#deps;
    const server = createHttpServer(this.#proxy, limits, { secure: false, publicPort: 80, httpsPort: 443 });
    this.#sweeping = setInterval(() => {
      this.#pools.sweep();
      this.#targets.forgetLoads(performance.now() - limits.autostopMs);
    }, sweepMs).unref();
    return { http: await this.#listen(server, host, http) };
  }

  /** No new connection; requests under way have `drainMs`. */
  async stop(): Promise<void> {
    clearInterval(this.#sweeping);
    const closed = this.#servers.map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    for (const server of this.#servers)
      (server as { closeIdleConnections?: () => void }).closeIdleConnections?.();
    this.balancer.stop();
    const limit = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, this.#deps.limits.drainMs);
    await Promise.all(closed);
    clearTimeout(limit);
    await this.#pools.stop();
  }

  async #listen(server: NetServer, host: string, port: number): Promise<number> {
    server.prependListener("connection", (socket: Socket) => {
      if (!this.#connections.admit(socket)) return;
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    server.listen({ host, port, backlog: 4_096 });
    await once(server, "listening");
    this.#servers.push(server);
    return (server.address() as AddressInfo).port;
  }
}
