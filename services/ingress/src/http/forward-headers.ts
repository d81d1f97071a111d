/**
 * The headers of a message as the other side gets them: pure.
 *
 * What is between two neighbours only is left out (RFC 9110 7.6.1). What tells a guest who its client is is written
 * here and never taken from the client, who could say anything; so are spellings of it with `_`, which many guests read
 * as the same name.
 */
import { randomBytes } from "node:crypto";
import type { HttpOptions } from "../routes/port-options.ts";

const hopByHop = new Set([
  ...["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"],
  ...["te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "expect"],
]);
const written = new Set([
  ...["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-ssl"],
  ...["x-real-ip", "forwarded", "x-request-id", "traceparent"],
]);
/** What a `Connection` header must not have taken out: the message would mean another thing. */
const kept = new Set(["host", "content-length", "cookie", "authorization", "cache-control"]);
/** A guest that reads `_` as `-` would take these for the real ones. */
const disguised = new Set([...written, ...hopByHop, "content-length", "host"]);

export interface ClientFacts {
  readonly address: string;
  readonly secure: boolean;
  readonly host: string;
  /** Public port of the listener. */
  readonly port: number;
}

export type ResponseWish = Pick<HttpOptions, "isPristine" | "removed" | "added">;

export interface ForwardedHead {
  /** Name, value, name, value. */
  readonly headers: string[];
  /** The same as HTTP/1.1 has it, each with its end of line. */
  readonly lines: string;
  readonly requestId: string;
  readonly traceId: string;
}

/** What is the same for all requests of a client to a host. */
interface Introduction extends ClientFacts {
  readonly headers: readonly string[];
  readonly lines: string;
}

const requestIdForm = /^[A-Za-z0-9._~+/=:-]{1,128}$/;
const traceForm = /^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/;
const nothing: ReadonlySet<string> = new Set();
/** In one look: what of a request is not sent on as it came. */
const notOwn = new Set([...hopByHop, ...written, "host"]);

/** @param raw name, value, name, value, pseudo headers left out */
export function headersToGuest(raw: readonly string[], client: ClientFacts): ForwardedHead {
  const nominated = nominatedIn(raw);
  const own: string[] = [];
  let requestId: string | undefined;
  let traceparent: string | undefined;
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] ?? "";
    const value = raw[at + 1] ?? "";
    const lower = name.toLowerCase();
    if (notOwn.has(lower)) {
      if (nominated.has(lower)) continue;
      if (lower === "x-request-id" && requestIdForm.test(value)) requestId ??= value;
      if (lower === "traceparent" && traceForm.test(value)) traceparent ??= value;
      continue;
    }
    if (nominated.has(lower)) continue;
    if (lower.includes("_") && disguised.has(lower.replaceAll("_", "-"))) continue;
    own.push(name, value);
  }
  const trace = traceparent ?? newTraceparent();
  const traceId = trace.slice(3, 35);
  return new Forwarded(own, introductionOf(client), requestId ?? traceId, trace);
}

class Forwarded implements ForwardedHead {
  readonly requestId: string;
  readonly #own: readonly string[];
  readonly #introduction: Introduction;
  readonly #trace: string;

  constructor(own: readonly string[], introduction: Introduction, requestId: string, trace: string) {
    this.#own = own;
    this.#introduction = introduction;
    this.requestId = requestId;
    this.#trace = trace;
  }

  get traceId(): string {
    return this.#trace.slice(3, 35);
  }

  get headers(): string[] {
    const ids = ["x-request-id", this.requestId, "traceparent", this.#trace];
    return [...this.#own, ...this.#introduction.headers, ...ids];
  }

  get lines(): string {
    return `${linesOf(this.#own)}${this.#introduction.lines}x-request-id: ${this.requestId}\r\ntraceparent: ${this.#trace}\r\n`;
  }
}

function linesOf(headers: readonly string[]): string {
  let lines = "";
  for (let at = 0; at < headers.length; at += 2) lines += `${headers[at]}: ${headers[at + 1]}\r\n`;
  return lines;
}

/** A client asks again, mostly. */
let lastIntroduction: Introduction | undefined;

function introductionOf(client: ClientFacts): Introduction {
  const last = lastIntroduction;
  const { address, secure, host, port } = client;
  if (last?.address === address && last.host === host && last.secure === secure && last.port === port)
    return last;
  const scheme = secure ? "https" : "http";
  const by = address.includes(":") ? `"[${address}]"` : address;
  const headers = [
    ...["host", host, "x-forwarded-for", address, "x-forwarded-proto", scheme],
    ...["x-forwarded-host", host, "x-forwarded-port", String(port)],
    ...["forwarded", `for=${by};host="${host}";proto=${scheme}`, "via", "1.1 hearth"],
  ];
  lastIntroduction = { address, secure, host, port, headers, lines: linesOf(headers) };
  return lastIntroduction;
}

/**
 * @param raw name, value, name, value
 * @param wish what the service wants of its answers
 */
export function headersToClient(raw: readonly string[], requestId: string, wish?: ResponseWish): string[] {
  const nominated = nominatedIn(raw);
  const headers: string[] = [];
  let hasRequestId = false;
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] ?? "";
    const lower = name.toLowerCase();
    if (hopByHop.has(lower) || nominated.has(lower)) continue;
    hasRequestId ||= lower === "x-request-id";
    headers.push(name, raw[at + 1] ?? "");
  }
  if (!hasRequestId && wish?.isPristine !== true) headers.push("x-request-id", requestId);
  return wish === undefined || wish.removed.size === 0 ? headers : withWish(headers, wish);
}

function withWish(headers: readonly string[], { removed, added }: ResponseWish): string[] {
  const kept: string[] = [];
  for (let at = 0; at < headers.length; at += 2)
    if (!removed.has((headers[at] ?? "").toLowerCase())) kept.push(headers[at] ?? "", headers[at + 1] ?? "");
  return [...kept, ...added];
}

/** Trailers may not frame or route a message, or say who somebody is (RFC 9110 6.5.1). */
const noTrailer = new Set([
  ...[...hopByHop, ...written, "host", "content-length", "content-encoding", "content-type", "content-range"],
  ...["authorization", "set-cookie", "cookie", "cache-control", "location", "www-authenticate"],
]);

/** In either direction. */
export function trailersOnward(raw: readonly string[]): [string, string][] {
  const trailers: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? "";
    if (!noTrailer.has(name.toLowerCase())) trailers.push([name, raw[at + 1] ?? ""]);
  }
  return trailers;
}

function nominatedIn(raw: readonly string[]): ReadonlySet<string> {
  let names: Set<string> | undefined;
  for (let at = 0; at < raw.length; at += 2) {
    if (raw[at]?.length !== 10 || raw[at]?.toLowerCase() !== "connection") continue;
    for (const part of (raw[at + 1] ?? "").split(",")) {
      const name = part.trim().toLowerCase();
      if (name === "keep-alive" || name === "close" || name === "" || kept.has(name)) continue;
      names ??= new Set();
      names.add(name);
    }
  }
  return names ?? nothing;
}

/** Random enough for ids; read in large pieces, as each read costs more than its bytes. */
const poolBytes = 24 * 256;
let pool = Buffer.alloc(0);
let poolAt = 0;

function newTraceparent(): string {
  if (poolAt >= pool.length) {
    pool = randomBytes(poolBytes);
    poolAt = 0;
  }
  const hex = pool.toString("hex", poolAt, poolAt + 24);
  poolAt += 24;
  return `00-${hex.slice(0, 32)}-${hex.slice(32)}-01`;
}
