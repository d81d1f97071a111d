/** One request as one stream of HTTP/2 to a guest. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
} from "node:http2";
import { trailersOnward } from "../http/forward-headers.ts";
import { asHeaderObject } from "../http/header-list.ts";
import type { IngressLimits } from "../limits.ts";
import {
  type GuestControl,
  type GuestHandler,
  type GuestRequest,
  guestSilent,
  NotActedOn,
  StreamReset,
} from "./guest-request.ts";

const { NGHTTP2_CANCEL, NGHTTP2_FLAG_END_STREAM, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = constants;

export interface StreamPlace {
  readonly session: ClientHttp2Session;
  readonly limits: IngressLimits;
}

/** @param over called once, when the stream is no more */
export function sendOnStream(
  { session, limits }: StreamPlace,
  request: GuestRequest,
  handler: GuestHandler,
  over: () => void,
): void {
  new GuestStream({ limits, request, handler, over }).start(session);
}

interface Parts {
  readonly limits: IngressLimits;
  readonly request: GuestRequest;
  readonly handler: GuestHandler;
  readonly over: () => void;
}

class GuestStream implements GuestControl {
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;
  isWhole = false;
  readonly #parts: Parts;
  #stream: ClientHttp2Stream | undefined;
  #isAnswered = false;
  /** Of the answer's body that the guest has announced and not sent. */
  #missing: number | undefined;
  #isOver = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  abort(reason: Error): void {
    this.#fail(reason);
  }

  start(session: ClientHttp2Session): void {
    const { request, handler, limits, over } = this.#parts;
    handler.onRequestStart(this);
    if (this.#isOver) {
      over();
      return;
    }
    let stream: ClientHttp2Stream;
    try {
      const hasTrailers = request.body !== undefined;
      const options = { endStream: request.body === undefined, waitForTrailers: hasTrailers };
      stream = session.request(requestHeaders(request) as never, options);
    } catch (error) {
      over();
      this.#fail(new NotActedOn("The connection takes no more streams.", { cause: error }));
      return;
    }
    this.#stream = stream;
    stream.setTimeout(limits.answerMs, () => {
      this.#fail(guestSilent(this.#isAnswered));
    });
    stream.on("response", (headers, flags, raw: unknown) => this.#answer(headers, flags, raw as string[]));
    stream.on("trailers", (_headers, _flags, raw: unknown) => {
      this.rawTrailers = raw as string[];
    });
    stream.on("data", (chunk: Buffer) => {
      if (this.#missing !== undefined) this.#missing -= chunk.length;
      if (this.#isOver) return;
      handler.onResponseData(this, chunk);
      // What came in one read is told in one turn.
      process.nextTick(() => this.#isOver || handler.onResponseRead(this));
    });
    // A stream that was reset without an error has ended as well, to Node; `close` comes next.
    stream.once("end", () => {
      if (this.#isAnswered && !this.#missing) this.#end();
    });
    stream.on("error", () => undefined);
    stream.once("close", () => {
      over();
      this.#fail(stream.rstCode === NGHTTP2_REFUSED_STREAM ? refused() : new StreamReset(stream.rstCode));
    });
    stream.on("wantTrailers", () => {
      stream.sendTrailers(asHeaderObject(trailersOnward(request.body?.rawTrailers ?? []).flat()));
    });
    request.body?.open().pipe(stream);
  }

  #answer(headers: IncomingHttpHeaders, flags: number, raw: string[]): void {
    if (this.#isOver) return;
    const { request, handler } = this.#parts;
    this.#isAnswered = true;
    const status = Number(headers[":status"]);
    const length = headers["content-length"];
    if (length !== undefined && request.method !== "HEAD" && status !== 304) this.#missing = Number(length);
    this.rawHeaders = withoutPseudo(raw);
    this.#stream?.setTimeout(request.idleMs);
    this.isWhole = (flags & NGHTTP2_FLAG_END_STREAM) !== 0;
    handler.onResponseStart(this, status, "");
    if (this.isWhole) this.#end();
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#parts.handler.onResponseEnd(this);
    // The guest has said all, and needs no more of the body.
    if (this.#stream?.writableEnded === false) this.#stream.close(NGHTTP2_NO_ERROR);
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#stream?.closed === false) this.#stream.close(NGHTTP2_CANCEL);
    this.#parts.handler.onResponseError(error);
  }
}

const refused = (): Error => new NotActedOn("The guest refused the stream.");

/** Names in lower case; what would frame or route the request a second time is told by the pseudo headers alone. */
function requestHeaders({ method, path, head: { headers } }: GuestRequest): string[] {
  let authority = "";
  const rest: string[] = [];
  for (let at = 0; at < headers.length; at += 2) {
    const name = (headers[at] ?? "").toLowerCase();
    if (name === "host") authority = headers[at + 1] ?? "";
    else rest.push(name, headers[at + 1] ?? "");
  }
  // That the answer may have trailers is between the door and the guest.
  return [
    ...[":method", method, ":scheme", "http", ":authority", authority, ":path", path],
    ...rest,
    ...["te", "trailers"],
  ];
}

function withoutPseudo(raw: readonly string[]): string[] {
  const headers: string[] = [];
  for (let at = 0; at < raw.length; at += 2)
    if (raw[at]?.startsWith(":") === false) headers.push(raw[at] ?? "", raw[at + 1] ?? "");
  return headers;
}
