/**
 * What the front door answers by itself. It says what is wrong and what would help, and nothing of any app: the name
 * that was asked for may be another tenant's.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Duplex } from "node:stream";
import type { ShortRequest } from "./short-path.ts";
import type { ShortResponse } from "./short-response.ts";

/** One that may have a body. */
export type StreamedRequest = IncomingMessage | Http2ServerRequest;
export type ClientRequest = StreamedRequest | ShortRequest;
export type ClientResponse = ServerResponse | Http2ServerResponse | ShortResponse;

export const refusals = {
  bad_request: [400, "The request is not valid HTTP."],
  ambiguous_length: [400, "The length of the request's body is not clear."],
  bad_host: [400, "The Host header is missing, doubled or no name."],
  bad_target: [400, "The target of the request is not valid."],
  misdirected: [421, "This connection was made for another name."],
  unknown_host: [404, "Nothing answers to this name here."],
  method_not_allowed: [405, "This method is not forwarded."],
  header_too_large: [431, "The headers of the request are too large."],
  body_too_large: [413, "The body of the request is too large."],
  headers_slow: [408, "The request did not arrive in time."],
  unsupported_coding: [501, "This transfer coding is not supported."],
  unsupported_version: [505, "This version of HTTP is not supported here."],
  no_machine: [503, "No machine of this app takes requests now."],
  unreachable: [503, "No machine of this app can be reached now."],
  waking: [503, "A machine of this app is starting and was not ready in time."],
  wake_failed: [503, "A machine of this app could not be started."],
  overloaded: [503, "Every machine of this app has as many requests as it takes."],
  too_many_waiting: [503, "Too many requests wait for this app already."],
  stopping: [503, "This host stops."],
  guest_refused: [502, "The app did not take the connection."],
  guest_broke: [502, "The app closed the connection before it had answered."],
  guest_invalid: [502, "The app's answer is not valid HTTP."],
  guest_slow: [504, "The app did not answer in time."],
} as const satisfies Record<string, readonly [number, string]>;
export type RefusalCode = keyof typeof refusals;

/** Seconds; what is answered with 503 says when to come back. */
const retryAfter: Partial<Record<RefusalCode, number>> = {
  no_machine: 5,
  unreachable: 5,
  waking: 2,
  wake_failed: 10,
  overloaded: 1,
  too_many_waiting: 5,
  stopping: 5,
};

export function refusalHead(code: RefusalCode): { status: number; headers: string[]; body: string } {
  const [status, text] = refusals[code];
  const body = `${text}\n`;
  const wait = retryAfter[code];
  return {
    status,
    body,
    headers: [
      ...["content-type", "text/plain; charset=utf-8", "content-length", String(Buffer.byteLength(body))],
      ...["cache-control", "no-store", "hearth-reason", code],
      ...(wait === undefined ? [] : ["retry-after", String(wait)]),
    ],
  };
}

/**
 * Refuses on a connection that has no response object. Node listens to it no more, so what breaks is caught here, and a
 * client that keeps its half open is cut off.
 */
export function refuseSocket(socket: Duplex, code: RefusalCode, lingerMs: number): void {
  socket.on("error", () => socket.destroy());
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once("close", () => clearTimeout(timer));
  socket.resume();
  socket.end(refusalBytes(code));
}

export function refusalBytes(code: RefusalCode): string {
  const { status, headers, body } = refusalHead(code);
  const lines = [`HTTP/1.1 ${status} ${code}`, "connection: close"];
  for (let at = 0; at < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`);
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}
