/**
 * HTTP/2 to clients, on connections that TLS was agreed for; what is behind is the same proxy.
 *
 * It is bounded by streams for each connection, by resets (rapid reset, CVE-2023-44487), by the size and number of
 * headers and by memory. Resets are counted here, as Node's own rate is not told in what it closes with. While a client
 * reads nothing nothing is read of it either, so that a flood of what must be answered waits in the client's kernel.
 * Node ends a connection when all is written, which may be never: then it is cut.
 */
import {
  constants,
  createServer as createHttp2Server,
  type Http2Session,
  type ServerHttp2Session,
} from "node:http2";
import type { TLSSocket } from "node:tls";
import type { IngressLimits } from "../limits.ts";
import type { HttpProxy, Listener } from "./http-proxy.ts";

export interface Http2Front {
  /** Serves a connection from its first byte on. */
  take(socket: TLSSocket): void;
  /** No new request on any connection; those under way go on. */
  drain(): void;
}

export interface Http2FrontDeps {
  readonly proxy: HttpProxy;
  readonly limits: IngressLimits;
  readonly listener: Listener;
}

interface Seen {
  readonly socket: TLSSocket;
  streams: number;
  endingSinceMs: number | undefined;
  resets: number;
  resetsSinceMs: number;
}

const resetWindowMs = 10_000;

export function createHttp2Front({ proxy, limits, listener }: Http2FrontDeps): Http2Front {
  const sessions = new Map<Http2Session, Seen>();
  const server = createHttp2Server({
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

  // Those that are to end, and whose client does not take what is still to be written.
  setInterval(() => {
    const nowMs = performance.now();
    for (const [session, seen] of sessions) {
      if (!session.destroyed && !(session.closed && seen.streams === 0)) continue;
      seen.endingSinceMs ??= nowMs;
      if (nowMs - seen.endingSinceMs >= limits.lingerMs) seen.socket.destroy();
    }
  }, limits.lingerMs).unref();
  let arriving: TLSSocket | undefined;
  server.on("session", (session: ServerHttp2Session) => {
    if (arriving === undefined) return;
    sessions.set(session, {
      ...{ socket: arriving, streams: 0, endingSinceMs: undefined },
      ...{ resets: 0, resetsSinceMs: 0 },
    });
    session.setLocalWindowSize(limits.http2ConnectionWindowBytes);
    session.once("close", () => sessions.delete(session));
    session.setTimeout(limits.keepAliveMs, () => {
      // With streams open, what does not move is theirs to end.
      session.close();
    });
    session.on("error", () => session.destroy());
  });
  server.on("sessionError", () => undefined);
  server.on("stream", (stream) => {
    // A close without an error would wait for the client to open its window.
    stream.setTimeout(limits.idleMs, () => stream.close(constants.NGHTTP2_CANCEL));
    stream.on("error", () => undefined);
    const { session } = stream;
    const seen = session && sessions.get(session);
    if (session === undefined || seen === undefined) return;
    seen.streams += 1;
    stream.once("close", () => {
      seen.streams -= 1;
    });
    stream.once("aborted", () => {
      const nowMs = performance.now();
      if (nowMs - seen.resetsSinceMs > resetWindowMs) {
        seen.resets = 0;
        seen.resetsSinceMs = nowMs;
      }
      seen.resets += 1;
      // Without an error Node would send the code of a close in peace.
      if (seen.resets > limits.streamResets)
        session.destroy(new Error("too many resets"), constants.NGHTTP2_ENHANCE_YOUR_CALM);
    });
  });
  server.on("request", (request, response) => proxy.handle(request, response, listener));
  server.on("checkContinue", (request, response) => {
    proxy.handle(request, response, listener, () => response.writeContinue());
  });
  server.on("connect", (_request, response) => {
    response.writeHead(405).end();
  });
  return {
    take: (socket) => {
      // Node makes the session, and tells of it, before this returns.
      arriving = socket;
      server.emit("connection", socket);
      arriving = undefined;
    },
    drain: () => {
      for (const session of [...sessions.keys()]) session.close();
    },
  };
}
