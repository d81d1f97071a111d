/**
 * One connection of HTTP/1.1 to a guest, with one request at a time: an answer that is late must not hold up another
 * client's. Bodies go as they come, in both directions. It is kept for the next request when both messages are whole
 * and the guest has not said that it closes.
 *
 * Nothing here waits by a timer of its own: whoever has it looks at it now and then, as a timer for each request would
 * be a good part of what a request costs.
 */
import type { Socket } from "node:net";
import { type MessageHead, type MessageListener, MessageParser } from "../http/message-parser.ts";
import type { IngressLimits } from "../limits.ts";
import { connectGuest, type GuestAddress } from "./connect-guest.ts";
import {
  type GuestControl,
  type GuestHandler,
  type GuestRequest,
  guestBroke,
  guestSilent,
  isRepeatable,
} from "./guest-request.ts";
import { headOf, writeBody } from "./http1-request.ts";

export interface Http1Task {
  readonly request: GuestRequest;
  readonly handler: GuestHandler;
}

export interface Http1Owner {
  readonly limits: IngressLimits;
  /** Monotonic, as of the last look. */
  readonly nowMs: number;
  /** It can take a request. */
  free(connection: Http1Connection): void;
  closed(connection: Http1Connection): void;
  /** The guest closed while the request was on its way, on a connection that it had kept idle; it may be repeated. */
  again(task: Http1Task): void;
}

/** Of a body that is told as text. */
const mostText = 16 * 1024;

/** What an exchange holds of its request, so that one that is over cannot touch the next. */
class Sending implements GuestControl {
  rawHeaders: readonly string[] | null = null;
  rawTrailers: readonly string[] | null = null;
  readonly task: Http1Task;
  #connection: Http1Connection | undefined;

  constructor(task: Http1Task, connection: Http1Connection) {
    this.task = task;
    this.#connection = connection;
  }

  get isOver(): boolean {
    return this.#connection === undefined;
  }

  over(): void {
    this.#connection = undefined;
  }

  pause(): void {
    this.#connection?.pause();
  }

  resume(): void {
    this.#connection?.resume();
  }

  abort(reason: Error): void {
    this.#connection?.fail(reason);
  }
}

export class Http1Connection implements MessageListener {
  readonly #owner: Http1Owner;
  readonly #parser: MessageParser;
  #socket: Socket | undefined;
  #sending: Sending | undefined;
  /** Of the message that is read: its head is there. */
  #hasHead = false;
  #isInterim = false;
  /** Of what was read together with a head, behind it. */
  #restBytes = 0;
  /** It is the body, and is not the parser's. */
  #isText = false;
  #isRead = false;
  #isSent = false;
  #keepAlive = false;
  #isPaused = false;
  #isKept = false;
  /** Something came since the request was sent. */
  #isHeard = false;
  #isClosed = false;
  /** Since the last look something has moved; so that no request costs a look at the clock. */
  #hasMoved = false;
  #silentFromMs = 0;
  #silentMs = 0;
  #idleFromMs = 0;

  constructor(owner: Http1Owner) {
    this.#owner = owner;
    this.#parser = new MessageParser("response", owner.limits.headerBytes, this);
  }

  /** @throws what connecting failed with */
  async connect(guest: GuestAddress): Promise<void> {
    const limitMs = this.#owner.limits.connectMs;
    const socket = await connectGuest(guest, { limitMs, read: (bytes) => this.#read(bytes) }).catch(
      (error: unknown) => {
        this.#close();
        throw error;
      },
    );
    this.#socket = socket;
    socket.on("error", (error) => this.#lost(error));
    socket.once("end", () => this.#ended());
    socket.once("close", () => this.#lost(guestBroke()));
    this.#idleFromMs = this.#owner.nowMs;
    if (this.#isClosed) socket.destroy();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Most servers close what was idle for longer, and a request would be on its way to it. */
  isStale(nowMs: number): boolean {
    return nowMs - this.#idleFromMs > this.#owner.limits.guestKeepAliveMs;
  }

  /** @param isLast it is closed behind this request */
  send(task: Http1Task, isLast = false): void {
    const { request, handler } = task;
    const sending = new Sending(task, this);
    this.#sending = sending;
    this.#isSent = false;
    this.#isRead = false;
    this.#isHeard = false;
    handler.onRequestStart(sending);
    if (sending.isOver || this.#socket === undefined) return;
    this.#silent(this.#owner.limits.answerMs);
    const { body } = request;
    const head = headOf(request, isLast);
    if (body === undefined) {
      this.#socket.write(head, "latin1");
      this.#isSent = true;
      return;
    }
    writeBody(this.#socket, body, head, {
      isOver: () => sending.isOver,
      moved: () => this.#silent(this.#owner.limits.answerMs),
      sent: () => {
        this.#isSent = true;
      },
    });
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#hasMoved = true;
    this.#socket?.resume();
  }

  /** Looks whether the guest has been silent for too long, or the connection idle. */
  look(nowMs: number): void {
    if (this.#sending === undefined) {
      if (this.#socket !== undefined && this.isStale(nowMs)) this.destroy();
      return;
    }
    if (this.#hasMoved) {
      this.#hasMoved = false;
      this.#silentFromMs = nowMs;
    }
    // Who holds up the answer is the client, which has limits of its own.
    if (this.#isPaused || nowMs - this.#silentFromMs <= this.#silentMs) return;
    this.fail(guestSilent(this.#hasHead));
  }

  /** What nobody has asked for is not waited for: the next request would get it. */
  onBegin(): void {
    if (this.#sending === undefined || this.#isRead) this.destroy();
  }

  onHead({ status = 0, statusText = "", headers, isUpgrade, keepAlive }: MessageHead): boolean {
    const sending = this.#sending;
    if (sending === undefined || this.#isRead) return true;
    this.#isInterim = status < 200 && status !== 101;
    if (this.#isInterim) return false;
    const isOther = isUpgrade || status === 101;
    const framing = framingOf(headers);
    const problem = isOther ? "it changes the protocol, unasked" : framing.problem;
    if (problem !== undefined) {
      this.fail(Object.assign(new Error(`The guest's answer: ${problem}.`), { code: "HPE_USER" }));
      return true;
    }
    this.#hasHead = true;
    this.#keepAlive = keepAlive;
    this.#silent(sending.task.request.idleMs);
    sending.rawHeaders = headers;
    sending.task.handler.onResponseStart(sending, status, statusText);
    if (sending.task.request.method === "HEAD") return true;
    this.#isText = framing.bytes === this.#restBytes && framing.bytes > 0 && status !== 204 && status !== 304;
    return this.#isText;
  }

  onBody(bytes: Buffer): void {
    const sending = this.#sending;
    if (sending === undefined || this.#isRead) return;
    this.#hasMoved = true;
    sending.task.handler.onResponseData(sending, bytes);
  }

  onEnd(trailers: string[]): void {
    if (this.#isInterim) {
      this.#isInterim = false;
      return;
    }
    if (this.#sending === undefined || !this.#hasHead) return;
    this.#sending.rawTrailers = trailers;
    // What follows in the same bytes is looked at before anybody is told.
    this.#isRead = true;
  }

  #read(bytes: Buffer): boolean {
    if (this.#isClosed) return false;
    this.#isHeard = true;
    this.#settle(this.#hasHead ? this.#parser.read(bytes) : this.#readAnswer(bytes));
    if (this.#hasHead && this.#sending !== undefined)
      this.#sending.task.handler.onResponseRead(this.#sending);
    return !this.#isPaused;
  }

  /**
   * From its head on. A short body that lies whole behind it is taken as it is: the parser would copy it, and call for
   * it.
   */
  #readAnswer(bytes: Buffer): Error | undefined {
    const end = bytes.indexOf("\r\n\r\n") + 4;
    const rest = bytes.length - end;
    if (end < 4 || rest === 0 || rest > mostText) return this.#parser.read(bytes);
    this.#restBytes = rest;
    const problem = this.#parser.read(bytes.subarray(0, end));
    this.#restBytes = 0;
    if (problem !== undefined) return problem;
    const sending = this.#sending;
    if (!this.#isText) return this.#isClosed ? undefined : this.#parser.read(bytes.subarray(end));
    this.#isText = false;
    if (sending !== undefined) sending.task.handler.onResponseText(sending, bytes.toString("latin1", end));
    return undefined;
  }

  #ended(): void {
    if (this.#isClosed) return;
    this.#keepAlive = false;
    const problem = this.#parser.end();
    this.#settle(problem && guestBroke());
    this.#lost(guestBroke());
  }

  #settle(problem: Error | undefined): void {
    const sending = this.#sending;
    if (this.#isRead && sending !== undefined) {
      const isKept = this.#keepAlive && this.#isSent && problem === undefined && !this.#isClosed;
      this.#isRead = false;
      this.#hasHead = false;
      this.#isPaused = false;
      this.#sending = undefined;
      sending.over();
      if (isKept) this.#keep();
      else this.destroy();
      sending.task.handler.onResponseEnd(sending);
    } else if (problem !== undefined) {
      if (sending === undefined) this.destroy();
      else this.fail(problem);
    }
  }

  #keep(): void {
    this.#isKept = true;
    this.#idleFromMs = this.#owner.nowMs;
    this.#owner.free(this);
  }

  /** The connection is no more. */
  #lost(error: Error): void {
    const sending = this.#sending;
    if (sending === undefined) {
      this.destroy();
      return;
    }
    const { task } = sending;
    if (
      !this.#isKept ||
      this.#isHeard ||
      task.request.body !== undefined ||
      !isRepeatable(task.request.method)
    ) {
      this.fail(error);
      return;
    }
    this.#sending = undefined;
    sending.over();
    this.destroy();
    this.#owner.again(task);
  }

  /** Ends what is under way, and the connection. */
  fail(error: Error): void {
    const sending = this.#sending;
    this.#sending = undefined;
    this.destroy();
    if (sending === undefined) return;
    sending.over();
    sending.task.handler.onResponseError(error);
  }

  destroy(): void {
    this.#socket?.destroy();
    this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#parser.close();
    this.#owner.closed(this);
  }

  #silent(limitMs: number): void {
    this.#hasMoved = true;
    this.#silentMs = limitMs;
  }
}

/** The parser has refused what has two framings. */
function framingOf(headers: readonly string[]): { readonly bytes: number; readonly problem?: string } {
  let bytes = 0;
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at] ?? "";
    if (name.length === 14 && name.toLowerCase() === "content-length") bytes = Number(headers[at + 1]);
    if (name.length !== 17 || name.toLowerCase() !== "transfer-encoding") continue;
    // One that is not undone here would reach the client without its name.
    if (headers[at + 1]?.toLowerCase() !== "chunked")
      return { bytes: 0, problem: "a transfer coding that is not chunked" };
  }
  return { bytes };
}
