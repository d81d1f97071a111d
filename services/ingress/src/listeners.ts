/**
 * The ports of a host: those of HTTP and HTTPS, which all apps share by name, and any other, which belongs to one app.
 * One process of a host has them. It counts each connection against the limits of the host, and then another process
 * of the front door may serve it, or this one does.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from "node:net";
import type { Arrival } from "./doors/door-messages.ts";
import type { IngressLimits } from "./limits.ts";
import type { PortClaims } from "./routes/port-claims.ts";
import { clientAddress } from "./tcp/client-address.ts";
import { ConnectionLimit } from "./tcp/connection-limit.ts";
import { listenerOptions, TcpPorts } from "./tcp/tcp-ports.ts";

export interface ListenersDeps {
  readonly claims: PortClaims;
  readonly limits: IngressLimits;
  /** When an app was made; of two that want a port the older one has it. */
  readonly createdMs: (app: string) => number;
  /** Whether another speaks for the client, so that it is not known yet whose the connection is. */
  readonly isProxied: (socket: Socket) => boolean;
  readonly serve: (socket: Socket, arrival: Arrival) => void;
  /**
   * Takes a connection that was admitted, or leaves it to this process.
   * @param over to be called when it is over
   */
  readonly handOver?: (socket: Socket, arrival: Arrival, over: () => void) => boolean;
  readonly log: (fields: object, text: string) => void;
}

export interface IngressPorts {
  readonly host: string;
  /** 0 takes any. */
  readonly http: number;
  readonly https: number;
  /** Ports of the host that no app gets. */
  readonly reserved?: readonly number[];
}

export class Listeners {
  readonly #deps: ListenersDeps;
  readonly #connections: ConnectionLimit;
  readonly #servers: NetServer[] = [];
  #tcpPorts: TcpPorts | undefined;

  constructor(deps: ListenersDeps) {
    this.#deps = deps;
    this.#connections = new ConnectionLimit(deps.limits);
  }

  /** Of this host, whichever process serves them. */
  get connections(): number {
    return this.#connections.open;
  }

  /**
   * The ports that all apps share.
   * @throws what `listen` throws when one cannot be had; then it may be tried again
   */
  async open({
    host,
    http,
    https,
  }: IngressPorts): Promise<{ readonly http: number; readonly https: number }> {
    try {
      const httpsPort = await this.#listen({ kind: "https" }, host, https);
      return { http: await this.#listen({ kind: "http" }, host, http), https: httpsPort };
    } catch (error) {
      for (const server of this.#servers.splice(0)) server.close();
      throw error;
    }
  }

  /** Those that belong to one app each, from now on. */
  async openAppPorts({ host, reserved = [] }: IngressPorts, shared: readonly number[]): Promise<void> {
    const { claims, limits, createdMs, log } = this.#deps;
    this.#tcpPorts = new TcpPorts({
      ...{ claims, host, log },
      rule: { reserved: new Set([...reserved, ...shared]), max: limits.tcpPorts, createdMs },
      serve: (socket, port, owner) => this.#arrive(socket, { kind: "tcp", port, ...owner }),
    });
    await this.#tcpPorts.start();
  }

  /** Sentences about ports that somebody wants and that cannot be had. */
  problems(): string[] {
    return this.#tcpPorts?.problems() ?? [];
  }

  /** Resolves when the ports of apps are as the routes want them at this moment. */
  async look(): Promise<void> {
    await this.#tcpPorts?.look();
  }

  /** No new connection; resolves when those that this process took, and has not handed over, have ended. */
  async close(): Promise<void> {
    const closed = this.#servers.map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    await this.#tcpPorts?.stop();
    await Promise.all(closed);
  }

  async #listen(arrival: Arrival, host: string, port: number): Promise<number> {
    const server = createServer(listenerOptions, (socket) => this.#arrive(socket, arrival));
    server.listen({ host, port, backlog: 4_096 });
    await once(server, "listening");
    this.#servers.push(server);
    return (server.address() as AddressInfo).port;
  }

  #arrive(socket: Socket, arrival: Arrival): void {
    const { isProxied, handOver, serve } = this.#deps;
    // What a load balancer passes on is counted by its client when that is known, and not as the balancer's.
    const over = this.#connections.admit(socket, isProxied(socket) ? undefined : clientAddress(socket));
    if (over === undefined) return;
    if (handOver?.(socket, arrival, over) === true) return;
    socket.once("close", over);
    serve(socket, arrival);
  }
}
