/**
 * WebSockets of sessions: which upgrades become one, and the limits of each. An upgrade passes through the
 * same hooks and routes as any request, so that it is authenticated and refused like one. ws is loaded when the
 * first session is wanted.
 */
import { type IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { HearthError } from "@hearth/errors";
import { maxExecFrameBytes } from "@hearth/machine";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { RawData, WebSocket, WebSocketServer } from "ws";
import type { App } from "../http/http-server.ts";
import { closeCode, SessionRelay } from "./session-relay.ts";

export const execSubprotocol = "exec.hearth.v1";

export interface SessionLimits {
  /** All sessions of this process together; each holds up to two windows of a bus stream. */
  readonly sessions: number;
  readonly startWithinMs: number;
  readonly pingMs: number;
  /** A client of which nothing was heard for this long is gone. */
  readonly silenceMs: number;
}

export const defaultSessionLimits: SessionLimits = {
  sessions: 256,
  startWithinMs: 10_000,
  pingMs: 20_000,
  silenceMs: 60_000,
};

interface Upgrade {
  readonly socket: Duplex;
  readonly head: Buffer;
}

export interface Admission {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** Aborts when the caller's token is over; then the session is too. */
  readonly ended: AbortSignal;
}

/** Given to the HTTP server: what wants another protocol, such as h2c, is served as the plain request it also is. */
export const wantsWebSocket = ({ method, headers }: IncomingMessage): boolean =>
  method === "GET" && headers.upgrade?.toLowerCase() === "websocket";

export class SessionSockets {
  readonly #limits: SessionLimits;
  readonly #upgrades = new WeakMap<IncomingMessage, Upgrade>();
  readonly #open = new Map<WebSocket, SessionRelay | undefined>();
  #server: Promise<WebSocketServer> | undefined;
  #stopped = false;

  constructor(limits: SessionLimits) {
    this.#limits = limits;
  }

  attach(app: App): void {
    app.server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on("error", () => undefined);
      const response = new ServerResponse(request);
      response.shouldKeepAlive = false;
      response.assignSocket(socket as never);
      response.once("finish", () => socket.end());
      this.#upgrades.set(request, { socket, head });
      app.routing(request, response);
    });
    app.addHook("preClose", async () => this.#stop());
  }

  /**
   * Turns a request into a socket whose first message is `start`, still to be checked.
   * @throws HearthError before the upgrade, while the request can still be answered
   */
  async accept(
    { request, reply, ended }: Admission,
    serve: (relay: SessionRelay, start: unknown) => Promise<void>,
  ): Promise<void> {
    const upgrade = this.#upgrades.get(request.raw);
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((each) => each.trim());
    if (upgrade === undefined || !offered.includes(execSubprotocol))
      throw new HearthError("invalid_argument", {
        message: `Sessions are WebSockets; connect with the subprotocol ${execSubprotocol}.`,
        details: { field: upgrade === undefined ? "upgrade" : "sec-websocket-protocol" },
      });
    this.#server ??= loadServer();
    const server = await this.#server;
    if (this.#stopped || this.#open.size >= this.#limits.sessions)
      throw new HearthError("unavailable", {
        message: `This API process has its ${this.#limits.sessions} sessions already; end one, or try again in a moment.`,
        details: { limit: this.#limits.sessions },
      });
    reply.hijack();
    reply.raw.detachSocket(upgrade.socket as never);
    server.handleUpgrade(request.raw, upgrade.socket as never, upgrade.head, (socket) => {
      this.#open.set(socket, undefined);
      socket.once("close", () => this.#open.delete(socket));
      // What ws finds wrong it answers with a close of its own.
      socket.on("error", (error) => request.log.info({ err: error }, "a session's socket broke"));
      this.#watch(socket);
      this.#awaitStart(socket, ended, serve);
    });
  }

  #awaitStart(
    socket: WebSocket,
    ended: AbortSignal,
    serve: (relay: SessionRelay, start: unknown) => Promise<void>,
  ): void {
    const begin = (): SessionRelay => {
      clearTimeout(limit);
      socket.off("message", first);
      const relay = new SessionRelay(socket);
      this.#open.set(socket, relay);
      const end = (): void => relay.fail(HearthError.from(ended.reason));
      if (ended.aborted) end();
      else ended.addEventListener("abort", end, { once: true });
      return relay;
    };
    const { startWithinMs } = this.#limits;
    const late = new HearthError("deadline_exceeded", {
      message: `No start message came within ${startWithinMs / 1000} s; send it first.`,
    });
    const limit = setTimeout(() => begin().fail(late), startWithinMs);
    const first = (data: RawData, isBinary: boolean): void => {
      const relay = begin();
      if (ended.aborted) return;
      try {
        void serve(relay, readStart(data as Buffer, isBinary));
      } catch (error) {
        relay.fail(HearthError.from(error));
      }
    };
    socket.on("message", first);
    socket.once("close", () => clearTimeout(limit));
  }

  /**
   * A proxy between keeps a connection that speaks, and a peer that vanished says nothing. A client whose
   * reader is slow cannot answer a ping either, but then its data is still on the way, or it pings by itself.
   */
  #watch(socket: WebSocket): void {
    const { pingMs, silenceMs } = this.#limits;
    let silentMs = 0;
    const heard = (): void => {
      silentMs = 0;
    };
    for (const event of ["message", "ping", "pong"] as const) socket.on(event, heard);
    const timer = setInterval(() => {
      const isWaiting = socket.isPaused || socket.bufferedAmount > 0;
      silentMs = isWaiting ? 0 : silentMs + pingMs;
      if (silentMs > silenceMs) socket.terminate();
      else if (socket.readyState !== socket.OPEN) return;
      // While nothing is read no answer can come, and a client may take pings that it cannot answer for a flood. A
      // pong that nobody asked for needs none (RFC 6455, 5.5.3), and writing it tells whether the client is there.
      else if (socket.isPaused) socket.pong();
      else socket.ping();
    }, pingMs).unref();
    socket.once("close", () => clearInterval(timer));
  }

  /** Programs end with the sessions that started them; their clients learn why. */
  #stop(): void {
    this.#stopped = true;
    const error = new HearthError("unavailable", {
      message: "This API process is ending; connect again in a moment.",
    });
    for (const [socket, relay] of this.#open) {
      relay?.fail(error, closeCode.goingAway);
      // The last frame is with the kernel or never will be: nobody waits for a client here.
      setImmediate(() => socket.terminate());
    }
  }
}

/** Pings pile up unread while a session is stalled, and all of them are read at once when it goes on. */
const manyPings = { maxPendingAutoPongs: 4096 };

async function loadServer(): Promise<WebSocketServer> {
  const { WebSocketServer } = await import("ws");
  return new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: maxExecFrameBytes + 1,
    handleProtocols: () => execSubprotocol,
    ...manyPings,
  });
}

function readStart(data: Buffer, isBinary: boolean): unknown {
  const wrong = (cause?: unknown) =>
    new HearthError("malformed_json", { message: "The first message of a session is JSON text.", cause });
  if (isBinary) throw wrong();
  try {
    return JSON.parse(data.toString("utf8"));
  } catch (cause) {
    throw wrong(cause);
  }
}
