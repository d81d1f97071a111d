/** What of a response is not the same in HTTP/1.1 and HTTP/2. */
import type { ServerResponse } from "node:http";
import { constants, type Http2ServerResponse } from "node:http2";
import type { ClientRequest, ClientResponse } from "./refusal.ts";

const isHttp2 = (response: ClientResponse): response is Http2ServerResponse => "stream" in response;

/** @param headers name, value, name, value */
export function writeHead(response: ClientResponse, status: number, text: string, headers: string[]): void {
  if (isHttp2(response)) {
    // A client that has gone has taken its stream with it.
    if (!response.stream.destroyed && !response.stream.closed) response.writeHead(status, asObject(headers));
  } else if (text === "") response.writeHead(status, headers);
  else response.writeHead(status, text, headers);
}

/** False when the client has to catch up first. */
export const writeChunk = (response: ClientResponse, chunk: Buffer): boolean =>
  isHttp2(response) ? response.write(chunk) : response.write(chunk);

/** Node sends text in one write with the head; the encoding is that of the head, and gives each byte back. */
export function endWith(response: ClientResponse, body: string, encoding: "utf8" | "latin1" = "utf8"): void {
  if (isHttp2(response)) response.end(body, encoding);
  else response.end(body, encoding);
}

export function addTrailers(response: ClientResponse, trailers: readonly [string, string][]): void {
  if (trailers.length === 0) return;
  if (isHttp2(response)) response.addTrailers(asObject(trailers.flat()));
  else (response as ServerResponse).addTrailers([...trailers] as unknown as [string, string][]);
}

/** So that the client sees that it did not get all. */
export function breakOff(response: ClientResponse): void {
  if (isHttp2(response)) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}

/** A client that was answered before it had sent all may go on for a moment, so that the answer reaches it. */
export function lingerAfter(request: ClientRequest, response: ClientResponse, lingerMs: number): void {
  if (request.complete) return;
  request.resume();
  if (isHttp2(response)) return;
  const timer = setTimeout(() => request.socket?.destroy(), lingerMs);
  request.once("close", () => clearTimeout(timer));
}

function asObject(flat: readonly string[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (let at = 0; at < flat.length; at += 2) {
    const name = (flat[at] ?? "").toLowerCase();
    const value = flat[at + 1] ?? "";
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else headers[name] = Array.isArray(before) ? [...before, value] : [before, value];
  }
  return headers;
}
