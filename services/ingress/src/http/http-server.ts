/**
 * Node's HTTP server with the limits of the door. Its parser is strict, and what it refuses is answered here; what it
 * lets pass is checked by request-check.ts.
 */
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import type { Duplex } from "node:stream";
import type { IngressLimits } from "../limits.ts";
import type { HttpProxy, Listener } from "./http-proxy.ts";
import { type RefusalCode, refuseSocket } from "./refusal.ts";

/** Also for HTTP/1.1 within TLS, where the server is another one. */
export const serverOptions = (limits: IngressLimits): ServerOptions => ({
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

export function createHttpServer(proxy: HttpProxy, limits: IngressLimits, listener: Listener): Server {
  const server = createServer(serverOptions(limits));
  attachProxy(server, proxy, limits, listener);
  return server;
}

export function attachProxy(
  server: Server,
  proxy: HttpProxy,
  limits: IngressLimits,
  listener: Listener,
): void {
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
