/**
 * TLS to clients: a certificate by name, then HTTP/2 or HTTP/1.1 as the two agree. What is behind is the same proxy.
 *
 * HTTP/2 is bounded by streams for each connection, by resets (rapid reset, CVE-2023-44487), by the size and number of
 * headers and by memory. Resets are counted here,
 * as Node's own rate is not told in what it closes with. A certificate that cannot be made is an alert to
 * the client and a line in the log, and not an end of the door.
 */
import {
  constants,
  createServer as createHttp2Server,
  type Http2Server,
  type Http2Session,
  type ServerHttp2Session,
} from "node:http2";
import type { Socket } from "node:net";
import {
  createSecureContext,
  createServer as createTlsServer,
  type SecureContext,
  TLSSocket,
  type TlsOptions,
  type Server as TlsServer,
} from "node:tls";
import type { Certificates } from "./certificates.ts";
import type { HttpProxy, Listener } from "./http-proxy.ts";
import { createHttpServer } from "./http-server.ts";
import type { IngressLimits } from "./limits.ts";
import type { KeyAndCertificate } from "./local-ca.ts";

export interface TlsFrontDeps {
  readonly proxy: HttpProxy;
  readonly certificates: Certificates;
  readonly limits: IngressLimits;
  readonly listener: Listener;
  /** The protocols that the service of this name wants offered; all that are spoken here when undefined. */
  readonly alpnOf: (name: string) => readonly string[] | undefined;
  readonly log: (fields: object, text: string) => void;
}

export interface TlsFront {
  /** Takes connections by `emit("connection", socket)`; it listens nowhere itself. */
  readonly server: TlsServer;
  /** What clients get that name nobody. */
  setFallback(pair: KeyAndCertificate): void;
  /** For a port that speaks another protocol within TLS; none of these is offered where there are none. */
  secure(socket: Socket, alpn: readonly string[], ready: (stream: TLSSocket) => void): void;
  /** No new request on any connection; those under way go on. */
  drain(): void;
}

const spoken: readonly string[] = ["h2", "http/1.1"];

/** The server's first choice; without one the client gets an alert (RFC 7301 3.2). */
const agreed = (wanted: readonly string[], offered: readonly string[]): string | undefined =>
  wanted.find((each) => offered.includes(each));

const resetWindowMs = 10_000;

export function createTlsFront({
  proxy,
  certificates,
  limits,
  listener,
  alpnOf,
  log,
}: TlsFrontDeps): TlsFront {
  const http1 = createHttpServer(proxy, limits, listener);
  // It listens nowhere, and Node begins to hold connections to their limits when it is told that a server listens.
  http1.emit("listening");
  const sessions = new Set<ServerHttp2Session>();
  const http2 = createHttp2Server({
    maxHeaderListPairs: limits.headers,
    maxSessionMemory: limits.http2SessionMib,
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    maxSettings: 32,
    maxOutstandingPings: 10,
    settings: {
      maxConcurrentStreams: limits.streams,
      maxHeaderListSize: limits.headerBytes,
      initialWindowSize: limits.http2WindowBytes,
      enablePush: false,
    },
  } as Parameters<typeof createHttp2Server>[0]);
  serveHttp2(http2, { proxy, limits, listener, sessions });
  const byName: NonNullable<TlsOptions["SNICallback"]> = (name, done) => {
    certificates.contextFor(name).then(
      (context) => done(context === undefined ? new Error("unknown name") : null, context),
      (error: unknown) => {
        log({ event: "certificate", name, err: error }, "a certificate could not be had");
        done(error as Error);
      },
    );
  };
  const server = createTlsServer({
    ALPNCallback: ({ servername, protocols }) => agreed(alpnOf(servername) ?? spoken, protocols),
    minVersion: "TLSv1.2",
    handshakeTimeout: limits.tlsHandshakeMs,
    SNICallback: byName,
  });
  let fallback: SecureContext | undefined;
  server.on("secureConnection", (socket: TLSSocket) => {
    (socket.alpnProtocol === "h2" ? http2 : http1).emit("connection", socket);
  });
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  const drain = (): void => {
    // It also stops that looking after; that it does not listen is no news.
    http1.close(() => undefined);
    for (const session of sessions) session.close();
  };
  return {
    server,
    drain,
    setFallback: ({ key, cert }) => {
      fallback = createSecureContext({ key, cert, minVersion: "TLSv1.2" });
      server.setSecureContext({ key, cert, minVersion: "TLSv1.2" });
    },
    secure: (socket, alpn, ready) => {
      const options = {
        ...{ isServer: true, SNICallback: byName },
        ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
        ...(fallback && { secureContext: fallback }),
      };
      const stream = new TLSSocket(socket, options);
      const timer = setTimeout(() => socket.destroy(), limits.tlsHandshakeMs);
      stream.once("close", () => clearTimeout(timer));
      stream.on("error", () => socket.destroy());
      stream.once("secure", () => {
        clearTimeout(timer);
        ready(stream);
      });
    },
  };
}

function serveHttp2(
  server: Http2Server,
  {
    proxy,
    limits,
    listener,
    sessions,
  }: Pick<TlsFrontDeps, "proxy" | "limits" | "listener"> & { readonly sessions: Set<ServerHttp2Session> },
): void {
  server.on("session", (session) => {
    sessions.add(session);
    session.setLocalWindowSize(limits.http2ConnectionWindowBytes);
    session.once("close", () => sessions.delete(session));
    session.setTimeout(limits.keepAliveMs, () => {
      // With streams open, what does not move is theirs to end.
      session.close();
    });
    session.on("error", () => session.destroy());
  });
  server.on("sessionError", () => undefined);
  const resets = new WeakMap<Http2Session, { count: number; sinceMs: number }>();
  server.on("stream", (stream) => {
    // A close without an error would wait for the client to open its window.
    stream.setTimeout(limits.idleMs, () => stream.close(constants.NGHTTP2_CANCEL));
    const { session } = stream;
    stream.once("aborted", () => {
      if (session === undefined) return;
      const nowMs = performance.now();
      const last = resets.get(session);
      const seen =
        last === undefined || nowMs - last.sinceMs > resetWindowMs ? { count: 0, sinceMs: nowMs } : last;
      seen.count += 1;
      resets.set(session, seen);
      // Without an error Node would send the code of a close in peace.
      if (seen.count > limits.streamResets)
        session.destroy(new Error("too many resets"), constants.NGHTTP2_ENHANCE_YOUR_CALM);
    });
    stream.on("error", () => undefined);
  });
  server.on("request", (request, response) => proxy.handle(request, response, listener));
  server.on("checkContinue", (request, response) => {
    proxy.handle(request, response, listener, () => response.writeContinue());
  });
  server.on("connect", (_request, response) => {
    response.writeHead(405).end();
  });
}
