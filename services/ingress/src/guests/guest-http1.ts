/**
 * Requests whose body has no length go to a guest by Node's own client, because undici sends no trailers. Each has a
 * connection of its own: such a body cannot be sent twice, so it is not risked on a connection that the guest may be
 * closing just now.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { trailersOnward } from "../http/forward-headers.ts";
import type { RequestBody } from "../http/request-body.ts";
import type { IngressLimits } from "../limits.ts";
import { connectGuest, type GuestAddress } from "./connect-guest.ts";
import type { GuestControl, GuestHandler, GuestRequest } from "./guest-request.ts";

export interface ChunkedGuest {
  readonly limits: IngressLimits;
  readonly guest: GuestAddress;
  /** Ends all of it. */
  readonly signal: AbortSignal;
  /** Called once, when it is over. */
  readonly over: () => void;
}

export async function sendChunked(
  { limits, guest, signal, over }: ChunkedGuest,
  request: GuestRequest & { readonly body: RequestBody },
  handler: GuestHandler,
): Promise<void> {
  try {
    const socket = await connectGuest(guest, { limitMs: limits.connectMs, signal });
    const asking = httpRequest({
      createConnection: () => socket,
      method: request.method,
      path: request.path,
      headers: [...request.headers, "transfer-encoding", "chunked", "connection", "close"],
      maxHeaderSize: limits.headerBytes,
      signal,
    });
    asking.once("close", over);
    new ChunkedRequest(asking, { limits, request, handler }).start();
  } catch (error) {
    over();
    handler.onResponseError(undefined, error as Error);
  }
}

interface Parts {
  readonly limits: IngressLimits;
  readonly request: GuestRequest & { readonly body: RequestBody };
  readonly handler: GuestHandler;
}

class ChunkedRequest implements GuestControl {
  readonly #asking: ClientRequest;
  readonly #parts: Parts;
  #answer: IncomingMessage | undefined;
  #isOver = false;

  constructor(asking: ClientRequest, parts: Parts) {
    this.#asking = asking;
    this.#parts = parts;
  }

  get rawHeaders(): readonly string[] | null {
    return this.#answer?.rawHeaders ?? null;
  }

  get rawTrailers(): readonly string[] | null {
    return this.#answer?.rawTrailers ?? null;
  }

  pause(): void {
    this.#answer?.pause();
  }

  resume(): void {
    this.#answer?.resume();
  }

  abort(reason: Error): void {
    this.#fail(reason);
  }

  start(): void {
    const { limits, request, handler } = this.#parts;
    const asking = this.#asking;
    asking.on("error", (error) => this.#fail(error));
    asking.once("response", (answer) => this.#read(answer));
    asking.setTimeout(limits.answerMs, () => {
      const code = this.#answer === undefined ? "UND_ERR_HEADERS_TIMEOUT" : "UND_ERR_BODY_TIMEOUT";
      this.#fail(Object.assign(new Error("The guest was silent for too long."), { code }));
    });
    handler.onRequestStart(this);
    if (this.#isOver) return;
    const body = request.body.open();
    body.once("end", () => {
      const trailers = trailersOnward(request.body.rawTrailers);
      if (trailers.length > 0) asking.addTrailers(trailers as unknown as [string, string][]);
      asking.end();
    });
    body.pipe(asking, { end: false });
  }

  #read(answer: IncomingMessage): void {
    const { request, handler } = this.#parts;
    this.#answer = answer;
    this.#asking.setTimeout(request.idleMs);
    answer.on("error", (error) => this.#fail(error));
    answer.on("data", (chunk: Buffer) => this.#isOver || handler.onResponseData(this, chunk));
    answer.once("end", () => {
      if (this.#isOver) return;
      this.#isOver = true;
      handler.onResponseEnd(this);
      this.#asking.destroy();
    });
    handler.onResponseStart(this, answer.statusCode ?? 0, answer.headers, answer.statusMessage);
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#asking.destroy();
    this.#parts.handler.onResponseError(this, error);
  }
}
