/**
 * HTTP/2 to one service of one machine, in clear and with prior knowledge (RFC 9113 3.3), for services that ask for it
 * by `h2_backend`; gRPC needs it.
 *
 * A connection is used when the guest's SETTINGS have come, so that one that speaks something else is found out before
 * a request is on it. A request waits where each connection has as many streams as its guest allows. After GOAWAY a
 * connection gets no more; what the guest says it did not act on goes to another. Nothing is pinged: servers of gRPC
 * take pings for an attack, and TCP sees a guest that is gone.
 */
import { type ClientHttp2Session, connect } from "node:http2";
import type { Socket } from "node:net";
import type { IngressLimits } from "../limits.ts";
import { connectGuest, type GuestAddress } from "./connect-guest.ts";
import type { GuestHandler, GuestRequest } from "./guest-request.ts";
import { sendOnStream } from "./guest-stream.ts";

interface Waiting {
  readonly request: GuestRequest;
  readonly handler: GuestHandler;
  readonly timer: NodeJS.Timeout;
}

interface Connection {
  readonly session: ClientHttp2Session;
  streams: number;
  /** No new streams: GOAWAY came, or it closes. */
  isLeaving: boolean;
  idleTimer: NodeJS.Timeout | undefined;
}

export class Http2Guest {
  readonly #limits: IngressLimits;
  readonly #guest: GuestAddress;
  readonly #connections = new Set<Connection>();
  readonly #waiting = new Set<Waiting>();
  #isOpening = false;
  #isClosed = false;

  constructor(limits: IngressLimits, guest: GuestAddress) {
    this.#limits = limits;
    this.#guest = guest;
  }

  dispatch(request: GuestRequest, handler: GuestHandler): void {
    const free = this.#free();
    if (free !== undefined) {
      this.#send(free, request, handler);
      return;
    }
    const late = (): void => {
      this.#waiting.delete(waiting);
      const error = new Error("Every stream that the guest allows is in use.");
      handler.onResponseError(Object.assign(error, { code: "STREAMS_IN_USE" }));
    };
    const waiting: Waiting = { request, handler, timer: setTimeout(late, this.#limits.waitMs) };
    this.#waiting.add(waiting);
    this.#openMore();
  }

  /** No new requests; those under way, and those that wait, go on. */
  close(): void {
    this.#isClosed = true;
    this.#leaveWhenDone();
  }

  destroy(): void {
    this.#failWaiting(new Error("The connection was given up."));
    this.close();
    for (const { session } of this.#connections) session.destroy();
  }

  get isBusy(): boolean {
    return this.#waiting.size > 0 || this.#connections.size > 0;
  }

  #leaveWhenDone(): void {
    if (!this.#isClosed || this.#waiting.size > 0) return;
    for (const connection of this.#connections) this.#leave(connection);
  }

  #free(): Connection | undefined {
    for (const connection of this.#connections)
      if (!connection.isLeaving && connection.streams < this.#allowed(connection)) return connection;
    return undefined;
  }

  #allowed({ session }: Connection): number {
    return Math.min(session.remoteSettings.maxConcurrentStreams ?? Infinity, this.#limits.guestStreams);
  }

  #send(connection: Connection, request: GuestRequest, handler: GuestHandler): void {
    connection.streams += 1;
    clearTimeout(connection.idleTimer);
    sendOnStream({ session: connection.session, limits: this.#limits }, request, handler, () => {
      connection.streams -= 1;
      if (connection.streams === 0) this.#idle(connection);
      this.#next();
    });
  }

  #next(): void {
    for (const waiting of this.#waiting) {
      const free = this.#free();
      if (free === undefined) break;
      this.#waiting.delete(waiting);
      clearTimeout(waiting.timer);
      this.#send(free, waiting.request, waiting.handler);
    }
    this.#openMore();
    this.#leaveWhenDone();
  }

  #idle(connection: Connection): void {
    clearTimeout(connection.idleTimer);
    const close = (): void => this.#leave(connection);
    connection.idleTimer = setTimeout(close, this.#limits.guestKeepAliveMs);
  }

  #leave(connection: Connection): void {
    connection.isLeaving = true;
    clearTimeout(connection.idleTimer);
    if (!connection.session.closed) connection.session.close();
  }

  #openMore(): void {
    if (this.#waiting.size === 0 || this.#isOpening) return;
    const usable = [...this.#connections].filter(({ isLeaving }) => !isLeaving);
    if (usable.length >= this.#limits.guestHttp2Connections) return;
    this.#isOpening = true;
    connectGuest(this.#guest, { limitMs: this.#limits.connectMs })
      .then((socket) => this.#greet(socket))
      .then(
        () => {
          this.#isOpening = false;
          this.#next();
        },
        (error: unknown) => {
          this.#isOpening = false;
          // Where another connection is up, its streams will be free again.
          if (!this.#isUp) this.#failWaiting(error as Error);
        },
      );
  }

  get #isUp(): boolean {
    return [...this.#connections].some(({ isLeaving }) => !isLeaving);
  }

  /** Resolves when the guest has said what it allows. */
  #greet(socket: Socket): Promise<void> {
    const limits = this.#limits;
    return new Promise((resolve, reject) => {
      const session = connect("http://guest", {
        createConnection: () => socket,
        maxHeaderListPairs: limits.headers,
        maxSessionMemory: limits.http2SessionMib,
        maxSettings: 32,
        settings: {
          enablePush: false,
          initialWindowSize: limits.http2WindowBytes,
          maxHeaderListSize: limits.headerBytes,
        },
      });
      const connection: Connection = { session, streams: 0, isLeaving: false, idleTimer: undefined };
      let failed = new Error("The guest closed the connection.");
      const timer = setTimeout(() => {
        failed = Object.assign(new Error("The guest sent no SETTINGS."), { code: "ERR_HTTP2_NO_SETTINGS" });
        session.destroy();
      }, limits.connectMs);
      session.on("error", (error) => {
        failed = error;
      });
      session.on("goaway", () => {
        connection.isLeaving = true;
      });
      session.once("remoteSettings", () => {
        clearTimeout(timer);
        // Streams have a window each; all together must not be held back by the smallest of the defaults.
        session.setLocalWindowSize(limits.http2ConnectionWindowBytes);
        this.#connections.add(connection);
        this.#idle(connection);
        // It may allow more later, or less.
        session.on("remoteSettings", () => this.#next());
        resolve();
      });
      session.once("close", () => {
        clearTimeout(timer);
        clearTimeout(connection.idleTimer);
        connection.isLeaving = true;
        const wasUp = this.#connections.delete(connection);
        reject(failed);
        if (wasUp) this.#openMore();
      });
    });
  }

  #failWaiting(error: Error): void {
    for (const { handler, timer } of this.#waiting) {
      clearTimeout(timer);
      handler.onResponseError(error);
    }
    this.#waiting.clear();
  }
}
