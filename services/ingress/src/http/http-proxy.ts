/**
 * What is done with a request of any kind of listener: it is checked, its target is found, and it is forwarded or
 * refused. Every answer by the door itself comes from here or from an exchange.
 */
import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import type { Duplex } from "node:stream";
import { parseHost } from "../routes/host-name.ts";
import type { Targets } from "../routes/targets.ts";
import { clientAddress } from "../tcp/client-address.ts";
import { challengePath } from "../tls/challenges.ts";
import { Exchange, type ExchangeDeps, type ExchangeFacts } from "./exchange.ts";
import { headersToGuest } from "./forward-headers.ts";
import {
  type ClientRequest,
  type ClientResponse,
  type RefusalCode,
  refusalHead,
  refusals,
  refuseSocket,
} from "./refusal.ts";
import { checkRequest } from "./request-check.ts";
import { endWith, lingerAfter, writeHead } from "./response.ts";
import { openTunnel } from "./tunnel.ts";

/** What a listener says of itself. */
export interface Listener {
  readonly secure: boolean;
  /** As configurations of machines name it. */
  readonly publicPort: number;
  /** Where HTTPS is, for those that are to use it. */
  readonly httpsPort: number;
}

export interface HttpProxyDeps extends ExchangeDeps {
  readonly targets: Targets;
  /** The text that an authority is to find at a path of a name; undefined leaves it to the app. */
  readonly proofFor: (host: string, path: string) => string | undefined;
}

export class HttpProxy {
  readonly #deps: HttpProxyDeps;
  /** Most requests are for the name of the one before. */
  #lastHost: { readonly header: string; readonly name: string | undefined } = { header: "", name: undefined };

  constructor(deps: HttpProxyDeps) {
    this.#deps = deps;
  }

  /** @param goOn tells a client that waits for it that its body is wanted */
  handle(request: ClientRequest, response: ClientResponse, listener: Listener, goOn?: () => void): void {
    if (this.#prove(request, response)) return;
    const facts = this.#facts(request, listener);
    if (typeof facts === "string") {
      this.#refuse(request, response, facts);
      return;
    }
    if (facts.target.forceHttps && !listener.secure) {
      const port = listener.httpsPort === 443 ? "" : `:${listener.httpsPort}`;
      const location = `https://${facts.host}${port}${facts.path}`;
      writeHead(response, 301, "", ["location", location, "content-length", "0"]);
      endWith(response, "");
      this.#log(request, 301, "force_https");
      lingerAfter(request, response, this.#deps.limits.lingerMs);
      return;
    }
    new Exchange(this.#deps, request, response, facts, goOn).start();
  }

  /** Answers an authority that looks for its proof, whatever the app does with the path, and also by plain HTTP. */
  #prove(request: ClientRequest, response: ClientResponse): boolean {
    const { url = "", method } = request;
    if (!url.startsWith(challengePath) || (method !== "GET" && method !== "HEAD")) return false;
    const checked = checkRequest(asParsed(request));
    const host = typeof checked === "string" ? undefined : parseHost(checked.host);
    const text = host === undefined ? undefined : this.#deps.proofFor(host, url);
    if (text === undefined) return false;
    const length = String(Buffer.byteLength(text));
    const headers = ["content-type", "application/octet-stream", "content-length", length];
    writeHead(response, 200, "", [...headers, "cache-control", "no-store"]);
    endWith(response, method === "HEAD" ? "" : text);
    this.#log(request, 200, "acme_challenge");
    return true;
  }

  /** A request that wants to speak WebSocket; its connection has no response object. */
  upgrade(request: IncomingMessage, socket: Duplex, first: Buffer, listener: Listener): void {
    const facts = this.#facts(request, listener);
    if (typeof facts === "string") {
      refuseSocket(socket, facts, this.#deps.limits.lingerMs);
      this.#log(request, refusals[facts][0], facts);
      return;
    }
    openTunnel(this.#deps, { request, socket, first, facts });
  }

  #facts(request: ClientRequest, { secure, publicPort }: Listener): ExchangeFacts | RefusalCode {
    const parsed = asParsed(request);
    const checked = checkRequest(parsed);
    if (typeof checked === "string") return checked;
    if (checked.host !== this.#lastHost.header)
      this.#lastHost = { header: checked.host, name: parseHost(checked.host) };
    const host = this.#lastHost.name;
    if (host === undefined) return "bad_host";
    if (checked.bodyBytes > this.#deps.limits.bodyBytes) return "body_too_large";
    const find = () => this.#deps.targets.find(host, publicPort);
    const target = find();
    if (target === undefined || target.passThrough) return "unknown_host";
    const client = "clientAddress" in request ? request.clientAddress : clientAddress(request.socket);
    const head = headersToGuest(parsed.rawHeaders, {
      address: client,
      secure,
      host: checked.host,
      port: publicPort,
    });
    return { find, target, head, host, client, path: checked.path, hasBody: checked.hasBody };
  }

  #refuse(request: ClientRequest, response: ClientResponse, code: RefusalCode): void {
    const { status, headers, body } = refusalHead(code);
    // Where the end of the request is in doubt, so is the beginning of the next one.
    if (!isHttp2(request) && code !== "unknown_host") headers.push("connection", "close");
    writeHead(response, status, "", headers);
    endWith(response, request.method === "HEAD" ? "" : body);
    this.#log(request, status, code);
    lingerAfter(request, response, this.#deps.limits.lingerMs);
  }

  /** Of what the door answered itself, at once. */
  #log(request: ClientRequest, status: number, reason: string): void {
    this.#deps.log({
      event: "request",
      status,
      client: clientAddress(request.socket),
      protocol: request.httpVersion,
      method: request.method ?? "",
      duration_ms: 0,
      reason,
    });
  }
}

/** Not by its version, which a client of HTTP/1.1 can write as it likes. */
const isHttp2 = (request: ClientRequest): request is Http2ServerRequest => "stream" in request;

interface Parsed {
  readonly method: string;
  readonly url: string;
  readonly httpVersion: string;
  readonly rawHeaders: readonly string[];
}

/** A request of HTTP/2 as one of HTTP/1.1, which is what is checked and what a guest gets. */
function asParsed(request: ClientRequest): Parsed {
  const { method = "", url = "", rawHeaders } = request;
  if (!isHttp2(request)) return { method, url, httpVersion: request.httpVersion, rawHeaders };
  const { authority, stream } = request;
  const headers: string[] = [];
  const cookies: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? "";
    const value = rawHeaders[at + 1] ?? "";
    if (name === "cookie") cookies.push(value);
    // The authority and the host say one thing twice; where they differ, two hosts remain and are refused.
    else if (!name.startsWith(":") && !(name === "host" && value === authority)) headers.push(name, value);
  }
  if (cookies.length > 0) headers.push("cookie", cookies.join("; "));
  if (authority !== "") headers.push("host", authority);
  // In HTTP/2 the frames say where a body ends; HTTP/1.1 has to be told.
  const isFramed = stream.endAfterHeaders || request.headers["content-length"] !== undefined;
  if (!isFramed) headers.push("transfer-encoding", "chunked");
  return { method, url, httpVersion: "1.1", rawHeaders: headers };
}
