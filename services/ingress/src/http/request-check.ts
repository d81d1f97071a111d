/**
 * What Node's parser lets pass and two servers could read in two ways, or a guest should not see. Pure over what was
 * parsed; requests that frame their body in two ways, fold lines or end them by LF alone the parser refuses itself
 * (request-check.test.ts sends all of them).
 */
import type { RefusalCode } from "./refusal.ts";

export interface ParsedRequest {
  readonly method: string;
  readonly url: string;
  readonly httpVersion: string;
  /** Name, value, name, value. */
  readonly rawHeaders: readonly string[];
}

/** RFC 9112 3.2.1: what a target may have, which is no blank, control, quote, fragment or byte above 126. */
const originForm = /^\/[\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7c\x7e{}|^`"<>\\]*$/;
const absoluteForm = /^https?:\/\/([^/?#@]+)(\/.*)?$/i;

export interface CheckedRequest {
  readonly host: string;
  /** In origin form. */
  readonly path: string;
  readonly hasBody: boolean;
  /** As far as it is said before; 0 when it is not. */
  readonly bodyBytes: number;
}

/** The request as it is forwarded, or why it is not. */
export function checkRequest(request: ParsedRequest): CheckedRequest | RefusalCode {
  const { method, httpVersion, rawHeaders } = request;
  if (httpVersion !== "1.1" && httpVersion !== "1.0") return "unsupported_version";
  if (method === "TRACE" || method === "CONNECT") return "method_not_allowed";
  let host: string | undefined;
  let coding: string | undefined;
  let length: string | undefined;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? "";
    // Only these three are looked at; the length tells most others from them.
    if (name.length !== 4 && name.length !== 14 && name.length !== 17) continue;
    const value = rawHeaders[at + 1] ?? "";
    const lower = name.toLowerCase();
    if (lower === "host") {
      if (host !== undefined) return "bad_host";
      host = value;
    } else if (lower === "content-length") {
      if (length !== undefined) return "ambiguous_length";
      length = value;
    } else if (lower === "transfer-encoding") {
      if (coding !== undefined) return "ambiguous_length";
      coding = value;
    }
  }
  if (coding !== undefined) {
    if (length !== undefined || httpVersion === "1.0") return "ambiguous_length";
    if (coding.toLowerCase() !== "chunked") return "unsupported_coding";
  }
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return "ambiguous_length";
  if (host === undefined) return "bad_host";
  const hasBody = coding !== undefined || (length !== undefined && length !== "0");
  return withTarget(request.url, { host, hasBody, bodyBytes: Number(length ?? 0) });
}

function withTarget(url: string, request: Omit<CheckedRequest, "path">): CheckedRequest | RefusalCode {
  const { host, hasBody, bodyBytes } = request;
  if (originForm.test(url)) return { host, path: url, hasBody, bodyBytes };
  const absolute = absoluteForm.exec(url);
  if (absolute === null) return "bad_target";
  // RFC 9112 3.2.2 has the target win; two names in one request are refused instead.
  if (absolute[1]?.toLowerCase() !== host.toLowerCase()) return "bad_host";
  const path = absolute[2] ?? "/";
  return originForm.test(path) ? { host, path, hasBody, bodyBytes } : "bad_target";
}
