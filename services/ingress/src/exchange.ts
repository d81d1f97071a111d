/**
 * One request on its way to a guest and back.
 *
 * Bodies are streamed in both directions, and each side is read only as fast as the other takes it. It is tried at
 * another machine while that is safe: nothing was sent, or the method may be repeated and nothing was answered. After
 * the first byte of an answer there is no way but on, or to break the connection off, so that nobody takes half of an
 * answer for a whole one.
 */
import { PassThrough } from "node:stream";
import type { Dispatcher } from "undici";
import type { AccessEvent, AccessLog } from "./access-log.ts";
import { type Balancer, Refused, type WaitReason } from "./balancer.ts";
import type { LoadedPlace } from "./choose-place.ts";
import { type ForwardedHead, headersToClient, trailersToClient } from "./forward-headers.ts";
import type { GuestPools } from "./guest-pools.ts";
import type { IngressLimits } from "./limits.ts";
import { type ClientRequest, type ClientResponse, type RefusalCode, refusalHead } from "./refusal.ts";
import { addTrailers, breakOff, endWith, lingerAfter, writeChunk, writeHead } from "./response.ts";
import type { LoadedTarget } from "./targets.ts";

export interface ExchangeDeps {
  readonly balancer: Balancer;
  readonly pools: GuestPools;
  readonly limits: IngressLimits;
  readonly log: AccessLog;
}

export interface ExchangeFacts {
  readonly find: () => LoadedTarget | undefined;
  readonly target: LoadedTarget;
  readonly head: ForwardedHead;
  readonly path: string;
  readonly host: string;
  readonly client: string;
  readonly hasBody: boolean;
}

const repeatable = new Set(["GET", "HEAD", "OPTIONS"]);
/** Above this, copying costs more than a second write. */
const joinedBytes = 16 * 1024;
const clientLeft = new Error("The client went away.");

export class Exchange implements Dispatcher.DispatchHandler {
  readonly #deps: ExchangeDeps;
  readonly #request: ClientRequest;
  readonly #response: ClientResponse;
  readonly #facts: ExchangeFacts;
  readonly #tried = new Set<string>();
  readonly #gone = new AbortController();
  readonly #beganMs = performance.now();
  readonly #goOn: (() => void) | undefined;
  #body: PassThrough | undefined;
  #place: LoadedPlace | undefined;
  #failed: Refused | undefined;
  #placedMs = 0;
  #answeredMs = 0;
  #sent = false;
  #controller: Dispatcher.DispatchController | undefined;
  #whyWaited: WaitReason | undefined;
  #bytesIn = 0;
  #bytesOut = 0;
  #held: Buffer | undefined;
  #isOver = false;

  constructor(
    deps: ExchangeDeps,
    request: ClientRequest,
    response: ClientResponse,
    facts: ExchangeFacts,
    goOn?: () => void,
  ) {
    this.#goOn = goOn;
    this.#deps = deps;
    this.#request = request;
    this.#response = response;
    this.#facts = facts;
  }

  start(): void {
    this.#response.on("drain", () => this.#controller?.resume());
    this.#response.on("close", () => {
      if (!this.#response.writableFinished) this.#end({ reason: "client_left" });
    });
    this.#findPlace();
  }

  #findPlace(): void {
    try {
      const { find } = this.#facts;
      const place = this.#deps.balancer.acquire(find, this.#tried, this.#gone.signal, (why) => {
        this.#whyWaited ??= why;
      });
      if (!(place instanceof Promise)) {
        this.#sendTo(place);
        return;
      }
      place.then(
        (late) => (this.#isOver ? this.#deps.balancer.release(late) : this.#sendTo(late)),
        (error: unknown) => this.#refuseWith(error),
      );
    } catch (error) {
      this.#refuseWith(error);
    }
  }

  #sendTo(place: LoadedPlace): void {
    this.#place = place;
    this.#placedMs = performance.now();
    this.#sent = false;
    this.#tried.add(place.endpoint.id);
    const { address } = place.endpoint;
    try {
      this.#deps.pools.pool(address, place.service.internalPort).dispatch(
        {
          path: this.#facts.path,
          method: this.#request.method as Dispatcher.HttpMethod,
          headers: this.#facts.head.headers,
          body: this.#facts.hasBody ? this.#bodyStream() : null,
        },
        this,
      );
    } catch (error) {
      this.onResponseError(undefined, error as Error);
    }
  }

  /** Not the request itself: what sends it would destroy it, and with it the connection that the answer goes to. */
  #bodyStream(): PassThrough {
    if (this.#body !== undefined) return this.#body;
    const body = new PassThrough();
    this.#goOn?.();
    const limit = this.#deps.limits.bodyBytes;
    this.#request.on("data", (chunk: Buffer) => {
      this.#bytesIn += chunk.length;
      if (this.#bytesIn > limit) this.#refuse("body_too_large");
    });
    this.#request.pipe(body);
    // Nobody else listens once it has been given up.
    body.on("error", () => undefined);
    this.#body = body;
    return body;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    this.#sent = true;
    if (this.#isOver) controller.abort(clientLeft);
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    message = "",
  ): void {
    if (status < 200) return;
    this.#answeredMs = performance.now();
    const raw = controller.rawHeaders as readonly (Buffer | string)[];
    writeHead(this.#response, status, message, headersToClient(raw, this.#facts.head.requestId));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytesOut += chunk.length;
    if (this.#bytesOut === chunk.length && chunk.length <= joinedBytes) {
      // Most answers are whole by the time that this turn of the parser ends: then head and body are one write.
      this.#held = chunk;
      process.nextTick(() => this.#writeHeld());
      return;
    }
    this.#writeHeld();
    if (!writeChunk(this.#response, chunk)) controller.pause();
  }

  #writeHeld(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined && !writeChunk(this.#response, held)) this.#controller?.pause();
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    const trailers = controller.rawTrailers as readonly (Buffer | string)[] | undefined;
    if (trailers !== undefined && trailers !== null && trailers.length > 0)
      addTrailers(this.#response, trailersToClient(trailers));
    const held = this.#held;
    this.#held = undefined;
    endWith(this.#response, held?.toString("latin1") ?? "", "latin1");
    this.#finish({});
    lingerAfter(this.#request, this.#response, this.#deps.limits.lingerMs);
  }

  onResponseError(_controller: unknown, error: Error): void {
    if (this.#isOver) return;
    const place = this.#place;
    if (place !== undefined && !this.#sent) this.#deps.balancer.avoid(place, error);
    const { code = "" } = error as NodeJS.ErrnoException;
    const why = code || error.message;
    if (this.#response.headersSent) {
      this.#end({ reason: "guest_broke", why });
      return;
    }
    const early = !this.#sent && place !== undefined;
    const reason = reasonOf(code) ?? (early ? this.#deps.balancer.refusalOf(place, error) : "guest_broke");
    if (place !== undefined && reason !== "guest_slow" && this.#mayRepeat()) {
      this.#failed = new Refused(reason, why);
      this.#place = undefined;
      this.#deps.balancer.release(place);
      if (this.#sent || !this.#deps.balancer.isSettling(place, error)) this.#findPlace();
      else {
        this.#tried.delete(place.endpoint.id);
        setTimeout(() => this.#isOver || this.#findPlace(), this.#deps.limits.settleRetryMs);
      }
      return;
    }
    this.#refuse(reason, why);
  }

  #mayRepeat(): boolean {
    if (this.#tried.size >= this.#deps.limits.attempts) return false;
    if (this.#body?.destroyed === true || this.#body?.readableDidRead === true) return false;
    return !this.#sent || (repeatable.has(this.#request.method ?? "") && !this.#facts.hasBody);
  }

  #refuseWith(error: unknown): void {
    // Where there is no other machine to try, what the last one did is the reason, unless its host was lost over it.
    const isLost = error instanceof Refused && error.code === "unreachable";
    const told = isLost ? error : (this.#failed ?? error);
    if (told instanceof Refused) this.#refuse(told.code, told.why);
    else this.#refuse("guest_broke", String(error));
  }

  #refuse(code: RefusalCode, why?: string): void {
    if (this.#isOver) return;
    const { status, headers, body } = refusalHead(code);
    const told = { reason: code, ...(why === undefined ? {} : { why }) };
    if (this.#response.headersSent) {
      this.#end(told);
      return;
    }
    headers.push("x-request-id", this.#facts.head.requestId);
    writeHead(this.#response, status, "", headers);
    endWith(this.#response, this.#request.method === "HEAD" ? "" : body);
    this.#finish(told);
    this.#controller?.abort(clientLeft);
    lingerAfter(this.#request, this.#response, this.#deps.limits.lingerMs);
  }

  /** Breaks off on both sides. */
  #end(told: Pick<AccessEvent, "reason" | "why">): void {
    if (this.#isOver) return;
    this.#finish(told);
    this.#gone.abort(clientLeft);
    this.#controller?.abort(clientLeft);
    breakOff(this.#response);
  }

  #finish(told: Pick<AccessEvent, "reason" | "why">): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const place = this.#place;
    if (place !== undefined) this.#deps.balancer.release(place);
    if (this.#body !== undefined) this.#request.unpipe(this.#body);
    const { target, head, path, host, client } = this.#facts;
    const query = path.indexOf("?");
    const since = (fromMs: number, toMs: number): number => Math.round((toMs - fromMs) * 1000) / 1000;
    this.#deps.log({
      event: "request",
      status: this.#response.headersSent ? this.#response.statusCode : 0,
      client,
      protocol: this.#request.httpVersion,
      host,
      method: this.#request.method ?? "",
      path: query < 0 ? path : path.slice(0, query),
      app: target.app,
      route: target.route,
      ...(place === undefined ? {} : { machine_id: place.endpoint.id }),
      request_id: head.requestId,
      trace_id: head.traceId,
      attempts: this.#tried.size,
      ...(this.#placedMs === 0 ? {} : { wait_ms: since(this.#beganMs, this.#placedMs) }),
      ...(this.#whyWaited === undefined ? {} : { why_waited: this.#whyWaited }),
      ...(this.#answeredMs === 0 ? {} : { upstream_ms: since(this.#placedMs, this.#answeredMs) }),
      duration_ms: since(this.#beganMs, performance.now()),
      bytes_in: this.#bytesIn,
      bytes_out: this.#bytesOut,
      ...told,
    });
  }
}

/** What a guest did wrong; undefined where the connection failed. */
function reasonOf(code: string): RefusalCode | undefined {
  if (code === "UND_ERR_HEADERS_TIMEOUT") return "guest_slow";
  if (code.startsWith("HPE_") || code === "UND_ERR_HEADERS_OVERFLOW" || code.startsWith("ERR_"))
    return "guest_invalid";
  return undefined;
}
