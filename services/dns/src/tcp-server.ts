/**
 * DNS over TCP (RFC 7766), for what does not fit a datagram. Queries of one connection may follow one another without
 * waiting, up to a limit, and are answered as they are ready. A client that sends nothing, or reads nothing, is cut
 * off.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { Source } from "./source-table.ts";
import type { ServerDeps } from "./udp-server.ts";

export interface TcpLimits {
  readonly connections: number;
  /** Without a whole query (RFC 7766 section 6.2.3 asks for seconds). */
  readonly idleMs: number;
  /** For one whole query after its first byte. */
  readonly queryMs: number;
  readonly maxQueryBytes: number;
  /** Queries of one connection that wait for an answer. */
  readonly inFlight: number;
  /** Answers that a client has not read. */
  readonly maxUnreadBytes: number;
}

export const defaultTcpLimits: TcpLimits = {
  ...{ connections: 256, idleMs: 10_000, queryMs: 5_000 },
  ...{ maxQueryBytes: 4_096, inFlight: 32, maxUnreadBytes: 256 * 1024 },
};

export class TcpServer {
  readonly #deps: ServerDeps;
  readonly #limits: TcpLimits;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(deps: ServerDeps, limits: TcpLimits = defaultTcpLimits) {
    this.#deps = deps;
    this.#limits = limits;
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = limits.connections;
    this.#server.on("drop", () => {
      deps.metrics.tcpConnectionsRefused += 1;
    });
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** @throws what `listen` says */
  async start(address: string, port: number): Promise<number> {
    const listening = once(this.#server, "listening");
    this.#server.listen({ host: address, port, ipv6Only: address.includes(":") });
    await listening;
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(socket: Socket): void {
    const source = this.#deps.sources.find(socket.remoteAddress ?? "");
    socket.on("error", () => undefined);
    if (source === undefined || source.tcpConnections >= source.limits.tcpConnections) {
      if (source === undefined) this.#deps.metrics.refusedSources += 1;
      this.#deps.metrics.tcpConnectionsRefused += 1;
      socket.destroy();
      return;
    }
    source.tcpConnections += 1;
    this.#sockets.add(socket);
    socket.once("close", () => {
      source.tcpConnections -= 1;
      this.#sockets.delete(socket);
    });
    new Conversation(socket, source, this.#deps, this.#limits).start();
  }
}

class Conversation {
  readonly #socket: Socket;
  readonly #source: Source;
  readonly #deps: ServerDeps;
  readonly #limits: TcpLimits;
  #received: Buffer = Buffer.alloc(0);
  #inFlight = 0;
  #hasEnded = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(socket: Socket, source: Source, deps: ServerDeps, limits: TcpLimits) {
    this.#socket = socket;
    this.#source = source;
    this.#deps = deps;
    this.#limits = limits;
  }

  start(): void {
    this.#await(this.#limits.idleMs);
    this.#socket.on("data", (chunk: Buffer) => {
      // Only the first byte of a query moves its deadline: one that comes a byte at a time must not last for ever.
      if (this.#received.length === 0) this.#await(this.#limits.queryMs);
      this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
      this.#read();
    });
    this.#socket.on("end", () => {
      this.#hasEnded = true;
      this.#endWhenDone();
    });
    this.#socket.once("close", () => clearTimeout(this.#timer));
  }

  #await(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#socket.destroy(), ms).unref();
  }

  #read(): void {
    const { maxQueryBytes, inFlight, idleMs, queryMs } = this.#limits;
    let taken = 0;
    while (!this.#socket.destroyed && this.#inFlight < inFlight && this.#received.length >= taken + 2) {
      const length = this.#received.readUInt16BE(taken);
      if (length > maxQueryBytes) {
        this.#deps.metrics.malformed += 1;
        this.#socket.destroy();
        return;
      }
      if (this.#received.length < taken + 2 + length) break;
      this.#answer(Buffer.from(this.#received.subarray(taken + 2, taken + 2 + length)));
      taken += 2 + length;
    }
    if (taken > 0) {
      this.#received = this.#received.subarray(taken);
      this.#await(this.#received.length === 0 ? idleMs : queryMs);
    }
    // What is not read stays with the kernel, and at last with the client.
    if (this.#inFlight >= inFlight) this.#socket.pause();
  }

  #answer(message: Buffer): void {
    const { metrics, sources, resolver } = this.#deps;
    metrics.tcpQueries += 1;
    if (!sources.spend(this.#source)) {
      metrics.limited += 1;
      this.#socket.destroy();
      return;
    }
    const reply = resolver.reply(message, this.#source, "tcp");
    if (reply === undefined) {
      this.#socket.destroy();
      return;
    }
    const { bytes } = reply;
    if (!(bytes instanceof Promise)) {
      this.#write(bytes);
      return;
    }
    this.#inFlight += 1;
    void bytes.then((late) => {
      this.#inFlight -= 1;
      this.#write(late);
      if (this.#socket.destroyed) return;
      this.#socket.resume();
      this.#read();
      this.#endWhenDone();
    });
  }

  #write(bytes: Buffer): void {
    if (this.#socket.destroyed) return;
    const { responses } = this.#deps.metrics;
    const code = (bytes[3] ?? 0) & 0x0f;
    responses[code] = (responses[code] ?? 0) + 1;
    const prefix = Buffer.allocUnsafe(2);
    prefix.writeUInt16BE(bytes.length);
    this.#socket.write(Buffer.concat([prefix, bytes]));
    if (this.#socket.writableLength > this.#limits.maxUnreadBytes) this.#socket.destroy();
  }

  #endWhenDone(): void {
    if (this.#hasEnded && this.#inFlight === 0) this.#socket.end();
  }
}
