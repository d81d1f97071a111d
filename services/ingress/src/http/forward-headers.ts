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
  readonly headers: string[];
  readonly requestId: string;
  readonly traceId: string;
}

const requestIdForm = /^[A-Za-z0-9._~+/=:-]{1,128}$/;
const traceForm = /^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/;
const nothing: ReadonlySet<string> = new Set();

/** @param raw name, value, name, value, pseudo headers left out */
export function headersToGuest(raw: readonly string[], client: ClientFacts): ForwardedHead {
  const nominated = nominatedIn(raw);
  const headers: string[] = [];
  let requestId: string | undefined;
  let traceparent: string | undefined;
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] ?? "";
    const value = raw[at + 1] ?? "";
    const lower = name.toLowerCase();
    if (hopByHop.has(lower) || nominated.has(lower)) continue;
    if (lower.includes("_") && disguised.has(lower.replaceAll("_", "-"))) continue;
    if (written.has(lower)) {
      if (lower === "x-request-id" && requestIdForm.test(value)) requestId ??= value;
      if (lower === "traceparent" && traceForm.test(value)) traceparent ??= value;
      continue;
    }
    if (lower === "host") continue;
    headers.push(name, value);
  }
  const trace = traceparent ?? newTraceparent();
  const traceId = trace.slice(3, 35);
  requestId ??= traceId;
  const scheme = client.secure ? "https" : "http";
  const by = client.address.includes(":") ? `"[${client.address}]"` : client.address;
  headers.push(
    ...["host", client.host, "x-forwarded-for", client.address, "x-forwarded-proto", scheme],
    ...["x-forwarded-host", client.host, "x-forwarded-port", String(client.port)],
    ...["forwarded", `for=${by};host="${client.host}";proto=${scheme}`],
    ...["x-request-id", requestId, "traceparent", trace, "via", "1.1 hearth"],
  );
  return { headers, requestId, traceId };
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
