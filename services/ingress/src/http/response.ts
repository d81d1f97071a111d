/** What of a response is not the same in HTTP/1.1, on its short path, and HTTP/2. */
import type { ServerResponse } from "node:http";
import { constants, type Http2ServerResponse } from "node:http2";
import { asHeaderObject } from "./header-list.ts";
import type { ClientRequest, ClientResponse } from "./refusal.ts";
import { ShortResponse } from "./short-response.ts";

const isHttp2 = (response: ClientResponse): response is Http2ServerResponse => "stream" in response;

/**
 * @param headers name, value, name, value
 * @param isWhole nothing follows: in HTTP/2 the head is then sent by `endWith` and says so, as gRPC tells errors by it
 */
export function writeHead(
  response: ClientResponse,
  status: number,
  text: string,
  headers: string[],
  isWhole = false,
): void {
  if (isHttp2(response)) {
    // A client that has gone has taken its stream with it.
    if (response.stream.destroyed || response.stream.closed) return;
    if (isWhole) holdHead(response, status, headers);
    else response.writeHead(status, asHeaderObject(headers));
  } else if (text === "") response.writeHead(status, headers);
  else response.writeHead(status, text, headers);
}

function holdHead(response: Http2ServerResponse, status: number, headers: string[]): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(asHeaderObject(headers))) response.setHeader(name, value);
}

/** False when the client has to catch up first. */
export const writeChunk = (response: ClientResponse, chunk: Buffer): boolean =>
  isHttp2(response) ? response.write(chunk) : response.write(chunk);

/** Node sends text in one write with the head; the encoding is that of the head, and gives each byte back. */
export function endWith(response: ClientResponse, body: string, encoding: "utf8" | "latin1" = "utf8"): void {
  if (response instanceof ShortResponse) response.end(body);
  else if (!isHttp2(response)) response.end(body, encoding);
  else if (body === "") response.end();
  else response.end(body, encoding);
}

export function addTrailers(response: ClientResponse, trailers: readonly [string, string][]): void {
  if (trailers.length === 0) return;
  if (response instanceof ShortResponse) response.addTrailers(trailers);
  else if (isHttp2(response)) response.addTrailers(asHeaderObject(trailers.flat()));
  else (response as ServerResponse).addTrailers([...trailers] as unknown as [string, string][]);
}

/**
 * So that the client sees that it did not get all.
 * @param rstCode what a guest has reset its own stream with
 */
export function breakOff(response: ClientResponse, rstCode: number = constants.NGHTTP2_INTERNAL_ERROR): void {
  // NO_ERROR would say that all is well.
  const code = rstCode === constants.NGHTTP2_NO_ERROR ? constants.NGHTTP2_INTERNAL_ERROR : rstCode;
  if (isHttp2(response)) response.stream.close(code);
  else response.destroy();
}

/** For this request; the next one of a connection has the listener's own again. */
export function setIdle(response: ClientResponse, idleMs: number): void {
  if (response instanceof ShortResponse) response.idleMs = idleMs;
  else if (isHttp2(response)) response.stream.setTimeout(idleMs);
  else response.socket?.setTimeout(idleMs);
}

/** A client that was answered before it had sent all may go on for a moment, so that the answer reaches it. */
export function lingerAfter(request: ClientRequest, response: ClientResponse, lingerMs: number): void {
  if (request.complete || !("resume" in request)) return;
  request.resume();
  if (isHttp2(response)) {
    // RFC 9113 8.1. Not before all of the answer is sent: Node would forget the stream's time limit at once.
    const { stream } = response;
    const close = (): void => stream.close(constants.NGHTTP2_NO_ERROR);
    if (stream.writableFinished) close();
    else stream.once("finish", close);
    return;
  }
  const timer = setTimeout(() => request.socket?.destroy(), lingerMs);
  request.once("close", () => clearTimeout(timer));
}
