/**
 * TLS to clients: a certificate by name, then HTTP/2 or HTTP/1.1 as the two agree. What is behind is the same proxy. A
 * certificate that cannot be made is an alert to the client and a line in the log, and not an end of the door.
 */
import type { Socket } from "node:net";
import {
  createSecureContext,
  createServer as createTlsServer,
  type SecureContext,
  TLSSocket,
  type TlsOptions,
  type Server as TlsServer,
} from "node:tls";
import type { HttpProxy, Listener } from "../http/http-proxy.ts";
import { createHttp1Front } from "../http/http-server.ts";
import { createHttp2Front } from "../http/http2-front.ts";
import type { IngressLimits } from "../limits.ts";
import type { Certificates } from "./certificates.ts";
import { challengeProtocol } from "./client-hello.ts";
import type { KeyAndCertificate } from "./local-ca.ts";

export interface TlsFrontDeps {
  readonly proxy: HttpProxy;
  readonly certificates: Certificates;
  readonly limits: IngressLimits;
  readonly listener: Listener;
  /** The protocols that the service of this name wants offered; all that are spoken here when undefined. */
  readonly alpnOf: (name: string) => readonly string[] | undefined;
  readonly log: (fields: object, text: string) => void;
  /** By which sessions are taken up again; this process's own when absent. */
  readonly ticketKeys?: Buffer;
}

export interface TlsFront {
  /** Takes connections by `emit("connection", socket)`; it listens nowhere itself. */
  readonly server: TlsServer;
  /** What clients get that name nobody. */
  setFallback(pair: KeyAndCertificate): void;
  /** For a port that speaks another protocol within TLS; none of these is offered where there are none. */
  secure(socket: Socket, alpn: readonly string[], ready: (stream: TLSSocket) => void): void;
  /** Shows an authority what it asks for, and ends: RFC 8737 3. */
  prove(socket: Socket, proof: SecureContext): void;
  /** No new request on any connection; those under way go on. */
  drain(): void;
}

const spoken: readonly string[] = ["h2", "http/1.1"];

/** The server's first choice; without one the client gets an alert (RFC 7301 3.2). */
const agreed = (wanted: readonly string[], offered: readonly string[]): string | undefined =>
  wanted.find((each) => offered.includes(each));

export function createTlsFront({
  proxy,
  certificates,
  limits,
  listener,
  alpnOf,
  log,
  ticketKeys,
}: TlsFrontDeps): TlsFront {
  const http1 = createHttp1Front(proxy, limits, listener);
  const http2 = createHttp2Front({ proxy, limits, listener });
  const byName: NonNullable<TlsOptions["SNICallback"]> = (name, done) => {
    certificates.contextFor(name).then(
      (context) => done(context === undefined ? new Error("unknown name") : null, context),
      (error: unknown) => {
        log({ event: "certificate", name, err: error }, "a certificate could not be had");
        done(error as Error);
      },
    );
  };
  // Node would make the name of the context from the arguments of the process, and so a session would be of that alone.
  const resumed = { sessionIdContext: "hearth", ...(ticketKeys === undefined ? {} : { ticketKeys }) };
  const server = createTlsServer({
    ALPNCallback: ({ servername, protocols }) => agreed(alpnOf(servername) ?? spoken, protocols),
    minVersion: "TLSv1.2",
    handshakeTimeout: limits.tlsHandshakeMs,
    SNICallback: byName,
    ...resumed,
  });
  let fallback: SecureContext | undefined;
  server.on("secureConnection", (socket: TLSSocket) => {
    if (socket.alpnProtocol === "h2") http2.take(socket);
    else http1.take(socket);
  });
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  const drain = (): void => {
    http1.drain();
    http2.drain();
  };
  return {
    server,
    drain,
    setFallback: ({ key, cert }) => {
      fallback = createSecureContext({ key, cert, minVersion: "TLSv1.2" });
      server.setSecureContext({ key, cert, minVersion: "TLSv1.2", ...resumed });
    },
    prove: (socket, proof) => {
      const options = { isServer: true, secureContext: proof, ALPNProtocols: [challengeProtocol] };
      const stream = new TLSSocket(socket, options);
      const timer = setTimeout(() => socket.destroy(), limits.tlsHandshakeMs);
      stream.once("close", () => clearTimeout(timer));
      stream.on("error", () => socket.destroy());
      stream.once("secure", () => stream.end());
      stream.resume();
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
