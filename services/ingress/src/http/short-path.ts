/**
 * The short path of HTTP/1.1: requests that lie whole in what was read at once and have no body, which are most. They
 * are read by the parser that Node's server has, and answered without its streams, which took more than all else that
 * a small request costs.
 *
 * Whatever is anything else (a body, a head in pieces, an upgrade, what the parser refuses) is Node's server's, with its
 * connection from then on and all that was read of it. So nothing here decides what a doubtful request means.
 */
import type { Server } from "node:http";
import type { Socket } from "node:net";
import type { IngressLimits } from "../limits.ts";
import { clientAddress } from "../tcp/client-address.ts";
import type { HttpProxy, Listener } from "./http-proxy.ts";
import { refuseSocket } from "./refusal.ts";
import { type ShortConnection, ShortResponse } from "./short-response.ts";
import { type WholeRequest, WholeRequests } from "./whole-requests.ts";

/** A request that has no body and is all here. */
export interface ShortRequest {
  readonly method: string;
  readonly url: string;
  readonly httpVersion: "1.1";
  readonly rawHeaders: readonly string[];
  readonly socket: Socket;
  /** Its address. */
  readonly clientAddress: string;
  readonly complete: true;
}

export interface ShortPathDeps {
  readonly proxy: Pick<HttpProxy, "handle">;
  readonly limits: IngressLimits;
  readonly listener: Listener;
  /** Takes what is not short, by its event `connection`. */
  readonly server: Server;
}

export class ShortPath {
  readonly deps: ShortPathDeps;
  readonly #connections = new Set<Connection>();
  readonly #reader: WholeRequests;
  readonly #timer: NodeJS.Timeout;
  #isLeaving = false;

  constructor(deps: ShortPathDeps) {
    this.deps = deps;
    const { limits } = deps;
    this.#reader = new WholeRequests(limits);
    const shortestMs = Math.min(limits.headersMs, limits.keepAliveMs, limits.idleMs);
    const everyMs = Math.min(1_000, Math.max(10, shortestMs / 4));
    this.#timer = setInterval(() => this.#look(), everyMs).unref();
  }

  take(socket: Socket): void {
    this.#connections.add(new Connection(this, socket));
  }

  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  read(bytes: Buffer): WholeRequest | undefined {
    return this.#reader.read(bytes);
  }

  gone(connection: Connection): void {
    this.#connections.delete(connection);
  }

  /** No new request on any connection; those under way go on. */
  drain(): void {
    this.#isLeaving = true;
    clearInterval(this.#timer);
    for (const connection of [...this.#connections]) connection.leave();
  }

  #look(): void {
    const nowMs = performance.now();
    for (const connection of this.#connections) connection.look(nowMs);
  }
}

class Connection implements ShortConnection {
  readonly socket: Socket;
  readonly keepAliveSeconds: number;
  readonly #path: ShortPath;
  readonly #onData = (bytes: Buffer): void => this.#read(bytes);
  readonly #onDrain = (): void => this.#response?.drained();
  readonly #onEnd = (): void => this.#ended();
  readonly #onClose = (): void => this.#closed();
  readonly #onError = (): void => undefined;
  #response: ShortResponse | undefined;
  /** Came while another request was answered; then nothing more is read. */
  #early: Buffer | undefined;
  #client: string | undefined;
  #isNew = true;
  #isOver = false;
  /** Since the last look something has moved; so that no request costs a look at the clock. */
  #hasMoved = true;
  #stillSinceMs = 0;

  constructor(path: ShortPath, socket: Socket) {
    this.#path = path;
    this.socket = socket;
    this.keepAliveSeconds = Math.floor(path.deps.limits.keepAliveMs / 1_000);
    socket.on("drain", this.#onDrain);
    socket.on("end", this.#onEnd);
    socket.on("close", this.#onClose);
    socket.on("error", this.#onError);
    socket.on("data", this.#onData);
    // Listeners take connections paused, as they may be handed to another process.
    socket.resume();
  }

  get isLeaving(): boolean {
    return this.#path.isLeaving;
  }

  #read(bytes: Buffer): void {
    if (this.#isOver) return;
    if (this.#response !== undefined) {
      this.#early = this.#early === undefined ? bytes : Buffer.concat([this.#early, bytes]);
      this.socket.pause();
      return;
    }
    const read = this.#path.read(bytes);
    if (read === undefined) {
      this.#handOver(bytes);
      return;
    }
    const { method, url, headers: rawHeaders } = read;
    this.#isNew = false;
    const response = new ShortResponse(this, method === "HEAD");
    this.#response = response;
    const { socket } = this;
    this.#client ??= clientAddress(socket);
    const request: ShortRequest = {
      method,
      url,
      httpVersion: "1.1",
      rawHeaders,
      socket,
      clientAddress: this.#client,
      complete: true,
    };
    const { proxy, listener } = this.#path.deps;
    proxy.handle(request, response, listener);
  }

  answered(response: ShortResponse, isLast: boolean): void {
    if (response !== this.#response) return;
    this.#response = undefined;
    this.#hasMoved = true;
    if (isLast || this.isLeaving) {
      this.#isOver = true;
      this.socket.end();
      return;
    }
    if (this.#early === undefined) return;
    const early = this.#early;
    this.#early = undefined;
    // Not within the answer before, of which there may be any number.
    setImmediate(() => {
      if (this.socket.destroyed) return;
      this.socket.resume();
      this.#read(early);
    });
  }

  /** With all that was read of the next request. */
  #handOver(bytes: Buffer): void {
    const { socket } = this;
    this.#path.gone(this);
    socket.off("drain", this.#onDrain);
    socket.off("end", this.#onEnd);
    socket.off("close", this.#onClose);
    socket.off("data", this.#onData);
    socket.unshift(bytes);
    this.#path.deps.server.emit("connection", socket);
    socket.off("error", this.#onError);
    socket.resume();
  }

  /** A client that closes its half is taken to have left. */
  #ended(): void {
    if (this.#response === undefined) this.socket.end();
    else this.socket.destroy();
  }

  #closed(): void {
    this.#path.gone(this);
    this.#response?.closed();
    this.#response = undefined;
  }

  leave(): void {
    if (this.#response === undefined && this.#early === undefined) this.socket.destroy();
  }

  moved(): void {
    this.#hasMoved = true;
  }

  look(nowMs: number): void {
    if (this.#hasMoved) {
      this.#hasMoved = false;
      this.#stillSinceMs = nowMs;
    }
    const { limits } = this.#path.deps;
    const response = this.#response;
    const stillMs = nowMs - this.#stillSinceMs;
    if (response !== undefined) {
      // Until the guest begins to answer, how long it may take is for the exchange to say.
      if (response.headersSent && stillMs > (response.idleMs ?? limits.idleMs)) this.socket.destroy();
      return;
    }
    if (this.#early !== undefined || stillMs <= (this.#isNew ? limits.headersMs : limits.keepAliveMs)) return;
    this.#isOver = true;
    this.#path.gone(this);
    if (this.#isNew) refuseSocket(this.socket, "headers_slow", limits.lingerMs);
    else this.socket.destroy();
  }
}
