/**
 * One request on its way to a guest and back.
 *
 * Bodies are streamed in both directions, and each side is read only as fast as the other takes it. It is tried at
 * another machine while that is safe: nothing was sent, or the method may be repeated and nothing was answered. After
 * the first byte of an answer there is no way but on, or to break the connection off, so that nobody takes half of an
 * answer for a whole one.
 */

import { type Balancer, Refused, type Seeker, type WaitReason } from "../choosing/balancer.ts";
import type { LoadedPlace } from "../choosing/choose-place.ts";
import type { GuestPools } from "../guests/guest-pools.ts";
import {
  type GuestControl,
  type GuestHandler,
  isRepeatable,
  NotActedOn,
  StreamReset,
} from "../guests/guest-request.ts";
import type { IngressLimits } from "../limits.ts";
import type { LoadedTarget } from "../routes/targets.ts";
import type { AccessEvent, AccessLog } from "../telemetry/access-log.ts";
import { type ForwardedHead, headersToClient, trailersOnward } from "./forward-headers.ts";
import {
  type ClientRequest,
  type ClientResponse,
  type RefusalCode,
  refusalHead,
  type StreamedRequest,
} from "./refusal.ts";
import { RequestBody } from "./request-body.ts";
import { addTrailers, breakOff, endWith, lingerAfter, setIdle, writeChunk, writeHead } from "./response.ts";

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

/** Above this, copying costs more than a second write. */
const joinedBytes = 16 * 1024;
const none: ReadonlySet<string> = new Set();
const clientLeft = new Error("The client went away.");

export class Exchange implements GuestHandler, Seeker {
  readonly #deps: ExchangeDeps;
  readonly #request: ClientRequest;
  readonly #response: ClientResponse;
  readonly #facts: ExchangeFacts;
  /** Machines that are not to be tried again. */
  #tried: ReadonlySet<string> = none;
  #attempts = 0;
  #gone: AbortController | undefined;
  readonly #beganMs = performance.now();
  readonly #goOn: (() => void) | undefined;
  #body: RequestBody | undefined;
  #place: LoadedPlace | undefined;
  #failed: Refused | undefined;
  #placedMs = 0;
  #answeredMs = 0;
  #sent = false;
  #controller: GuestControl | undefined;
  #whyWaited: WaitReason | undefined;
  #bytesOut = 0;
  #held: Buffer | undefined;
  #text = "";
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

  get signal(): AbortSignal {
    this.#gone ??= new AbortController();
    return this.#gone.signal;
  }

  waits(why: WaitReason): void {
    this.#whyWaited ??= why;
  }

  start(): void {
    this.#response.on("drain", () => this.#controller?.resume());
    // A stream of HTTP/2 that its client has reset looks finished, so what counts is whether the answer was given.
    this.#response.on("close", () => this.#end({ reason: "client_left" }));
    this.#findPlace();
  }

  #findPlace(): void {
    try {
      const { find } = this.#facts;
      const place = this.#deps.balancer.acquire(find, this.#tried, this);
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
    // Nearly all have a place at once.
    const isAtOnce = this.#failed === undefined && this.#whyWaited === undefined;
    this.#placedMs = isAtOnce ? this.#beganMs : performance.now();
    this.#sent = false;
    this.#attempts += 1;
    const { path, head } = this.#facts;
    const method = this.#request.method ?? "";
    const { limits } = this.#deps;
    const { idleMs = limits.idleMs } = place.port?.http ?? {};
    try {
      const body = this.#facts.hasBody ? this.#bodyOf() : undefined;
      if (body === undefined) this.#awaitAnswer();
      else if (idleMs !== limits.idleMs) setIdle(this.#response, idleMs);
      this.#deps.pools.dispatch(place, { method, path, head, body, idleMs }, this);
    } catch (error) {
      this.onResponseError(error as Error);
    }
  }

  #bodyOf(): RequestBody {
    if (this.#body !== undefined) return this.#body;
    this.#goOn?.();
    const { bodyBytes: limitBytes, keptBodyBytes: keptBytes } = this.#deps.limits;
    const tooLong = (): void => this.#refuse("body_too_large");
    // What comes on the short path has none.
    const request = this.#request as StreamedRequest;
    this.#body = new RequestBody(request, { limitBytes, keptBytes, tooLong });
    request.once("end", () => this.#awaitAnswer());
    return this.#body;
  }

  /** The client has said all, and is to be silent: how long the guest may take is another limit, for long polls. */
  #awaitAnswer(): void {
    if (this.#isOver || this.#response.headersSent) return;
    setIdle(this.#response, this.#place?.port?.http.idleMs ?? this.#deps.limits.answerMs);
  }

  onRequestStart(controller: GuestControl): void {
    this.#controller = controller;
    this.#sent = true;
    if (this.#isOver) controller.abort(clientLeft);
  }

  onResponseStart(controller: GuestControl, status: number, statusText: string): void {
    if (status < 200) return;
    this.#answeredMs = performance.now();
    this.#body?.forget();
    setIdle(this.#response, this.#place?.port?.http.idleMs ?? this.#deps.limits.idleMs);
    const { requestId } = this.#facts.head;
    const headers = headersToClient(controller.rawHeaders ?? [], requestId, this.#place?.port?.http);
    writeHead(this.#response, status, statusText, headers, controller.isWhole);
  }

  onResponseData(controller: GuestControl, chunk: Buffer): void {
    this.#bytesOut += chunk.length;
    if (this.#bytesOut === chunk.length && chunk.length <= joinedBytes) {
      // Most answers are whole by the time that all of it is told: then head and body are one write.
      this.#held = chunk;
      return;
    }
    this.onResponseRead(controller);
    if (!writeChunk(this.#response, chunk)) controller.pause();
  }

  onResponseText(_controller: GuestControl, text: string): void {
    this.#bytesOut = text.length;
    this.#text = text;
  }

  onResponseRead(controller: GuestControl): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined && !writeChunk(this.#response, held)) controller.pause();
  }

  onResponseEnd(controller: GuestControl): void {
    addTrailers(this.#response, trailersOnward(controller.rawTrailers ?? []));
    const held = this.#held;
    this.#held = undefined;
    endWith(this.#response, held?.toString("latin1") ?? this.#text, "latin1");
    this.#finish({});
    lingerAfter(this.#request, this.#response, this.#deps.limits.lingerMs);
  }

  onResponseError(error: Error): void {
    if (this.#isOver) return;
    const place = this.#place;
    if (place !== undefined && !this.#sent) this.#deps.balancer.avoid(place, error);
    const { code = "" } = error as NodeJS.ErrnoException;
    const why = code || error.message;
    if (this.#response.headersSent) {
      const rstCode = error instanceof StreamReset ? error.rstCode : undefined;
      this.#end({ reason: "guest_broke", why }, rstCode);
      return;
    }
    const early = !this.#sent && place !== undefined;
    const reason = reasonOf(code) ?? (early ? this.#deps.balancer.refusalOf(place, error) : "guest_broke");
    // The guest did not act on it, as one that closes its connection does: it may well take it on the next.
    const isOfNoAccount = error instanceof NotActedOn;
    if (isOfNoAccount) this.#sent = false;
    if (place !== undefined && reason !== "guest_slow" && this.#mayRepeat()) {
      this.#failed = new Refused(reason, why);
      this.#place = undefined;
      this.#deps.balancer.release(place);
      const isSettling = !this.#sent && this.#deps.balancer.isSettling(place, error);
      if (!isSettling && !isOfNoAccount) this.#tried = new Set([...this.#tried, place.endpoint.id]);
      if (isSettling) {
        if (!isOfNoAccount) this.#attempts -= 1;
        setTimeout(() => this.#isOver || this.#findPlace(), this.#deps.limits.settleRetryMs);
      } else this.#findPlace();
      return;
    }
    this.#refuse(reason, why);
  }

  #mayRepeat(): boolean {
    if (this.#attempts >= this.#deps.limits.attempts) return false;
    if (this.#body?.canRepeat === false) return false;
    return !this.#sent || (isRepeatable(this.#request.method ?? "") && !this.#facts.hasBody);
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
  #end(told: Pick<AccessEvent, "reason" | "why">, rstCode?: number): void {
    if (this.#isOver) return;
    this.#finish(told);
    this.#gone?.abort(clientLeft);
    this.#controller?.abort(clientLeft);
    breakOff(this.#response, rstCode);
  }

  #finish(told: Pick<AccessEvent, "reason" | "why">): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const place = this.#place;
    const nowMs = performance.now();
    if (place !== undefined) this.#deps.balancer.release(place, nowMs);
    this.#body?.close();
    const { target, head, path, host, client } = this.#facts;
    const query = path.indexOf("?");
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
      machine_id: place?.endpoint.id,
      request_id: head.requestId,
      trace_id: head.traceId,
      attempts: this.#attempts,
      wait_ms: this.#placedMs === 0 ? undefined : since(this.#beganMs, this.#placedMs),
      why_waited: this.#whyWaited,
      upstream_ms: this.#answeredMs === 0 ? undefined : since(this.#placedMs, this.#answeredMs),
      duration_ms: since(this.#beganMs, nowMs),
      bytes_in: this.#body?.bytes ?? 0,
      bytes_out: this.#bytesOut,
      reason: told.reason,
      why: told.why,
    });
  }
}

const since = (fromMs: number, toMs: number): number => Math.round((toMs - fromMs) * 1000) / 1000;

/** What a guest did wrong; undefined where the connection failed. */
function reasonOf(code: string): RefusalCode | undefined {
  if (code === "GUEST_SILENT") return "guest_slow";
  if (code === "STREAMS_IN_USE") return "overloaded";
  if (code.startsWith("HPE_") || code.startsWith("ERR_")) return "guest_invalid";
  return undefined;
}
