/**
 * HTTP/1.1 to clients: the short path for what is short, and else Node's HTTP server with the limits of the door. The
 * parser of both is strict, and what it refuses is answered here; what it lets pass is checked by request-check.ts.
 */
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { IngressLimits } from "../limits.ts";
import type { HttpProxy, Listener } from "./http-proxy.ts";
import { type RefusalCode, refuseSocket } from "./refusal.ts";
import { ShortPath } from "./short-path.ts";

const serverOptions = (limits: IngressLimits): ServerOptions => ({
  insecureHTTPParser: false,
  maxHeaderSize: limits.headerBytes,
  headersTimeout: limits.headersMs,
  // A body may take as long as it moves.
  requestTimeout: 0,
  keepAliveTimeout: limits.keepAliveMs,
  connectionsCheckingInterval: Math.min(5_000, Math.max(100, Math.floor(limits.headersMs / 3))),
  noDelay: true,
  // Any other protocol is not spoken here, and RFC 9110 7.8 lets a server ignore what a client would rather speak.
  shouldUpgradeCallback: (request) => request.headers.upgrade?.toLowerCase() === "websocket",
});

export interface Http1Front {
  /** Serves a connection, from what is still to be read of it on. */
  take(socket: Socket): void;
  /** No new request on any connection; those under way go on. */
  drain(): void;
}

export function createHttp1Front(proxy: HttpProxy, limits: IngressLimits, listener: Listener): Http1Front {
  const server = createServer(serverOptions(limits));
  attachProxy(server, proxy, limits, listener);
  // It listens nowhere, and Node begins to hold connections to their limits when it is told that a server listens.
  server.emit("listening");
  const short = new ShortPath({ proxy, limits, listener, server });
  return {
    take: (socket) => short.take(socket),
    drain: () => {
      short.drain();
      // It closes what is idle; that it does not listen is no news.
      server.close(() => undefined);
    },
  };
}

function attachProxy(server: Server, proxy: HttpProxy, limits: IngressLimits, listener: Listener): void {
  server.maxHeadersCount = limits.headers;
  server.setTimeout(limits.idleMs);
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    proxy.handle(request, response, listener);
  });
  server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
    proxy.handle(request, response, listener, () => response.writeContinue());
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, first: Buffer) => {
    proxy.upgrade(request, socket, first, listener);
  });
  server.on("connect", (_request: IncomingMessage, socket: Duplex) => {
    refuseSocket(socket, "method_not_allowed", limits.lingerMs);
  });
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
    const { _httpMessage: answering } = socket as { _httpMessage?: { headersSent?: boolean } };
    // In the middle of an answer, a second one would be read as a part of it.
    if (!socket.writable || error.code === "ECONNRESET" || answering?.headersSent === true) {
      socket.destroy();
      return;
    }
    refuseSocket(socket, parseRefusal(error.code), limits.lingerMs);
  });
}

function parseRefusal(code: string | undefined): RefusalCode {
  if (code === "HPE_HEADER_OVERFLOW") return "header_too_large";
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return "headers_slow";
  return "bad_request";
}
