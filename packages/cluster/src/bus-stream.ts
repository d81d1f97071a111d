/**
 * An ordered channel of messages, both ways, over NATS core.
 *
 * NATS drops what a slow client does not take, so the writer must never outrun the reader: each side may
 * have `windowBytes` unread at the other, and gets credit back only when the reader has taken a message.
 * That bounds the memory of both processes and of the server between them. NATS core can also lose frames
 * when a connection breaks; every frame has a sequence, and a gap ends the stream with `unavailable`
 * instead of passing on a stream with a hole. Silence longer than `idleLimitMs` ends it too.
 */
import { HearthError } from "@hearth/errors";
import type { NatsConnection, Subscription } from "@nats-io/nats-core";
import { type Refusals, refusedBy } from "./bus-refusals.ts";
import {
  decodeCredit,
  decodeFrame,
  encodeCredit,
  encodeFrame,
  type Frame,
  FrameKind,
} from "./stream-frame.ts";

export const windowBytes = 1024 * 1024;
/** Half a window, so that credit held back by the reader can never block the largest message. */
export const maxMessageBytes = 512 * 1024;
/** What a message costs beyond its bytes, so that empty messages are bounded as well. */
const messageOverheadBytes = 64;
const creditStepBytes = windowBytes / 4;

export interface BusStreamLimits {
  readonly heartbeatMs?: number;
  /** The stream is broken when nothing came from the peer for this long. */
  readonly idleLimitMs?: number;
}

export interface BusStreamOptions extends BusStreamLimits {
  readonly connection: NatsConnection;
  /** Of the connection; a frame that the server refuses ends the stream. */
  readonly refusals?: Refusals;
  readonly receiveSubject: string;
  readonly sendSubject: string;
}

const empty = new Uint8Array(0);
const costOf = (message: Uint8Array): number => message.length + messageOverheadBytes;

export class BusStream implements AsyncIterable<Uint8Array> {
  /** Resolves when the stream is over: undefined after both ends, the error otherwise. */
  readonly closed: Promise<HearthError | undefined>;
  readonly #connection: NatsConnection;
  readonly #sendSubject: string;
  readonly #subscription: Subscription;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #idle: NodeJS.Timeout;
  readonly #refusal: Disposable | undefined;
  readonly #inbox: Uint8Array[] = [];
  readonly #wakeReader = new Set<() => void>();
  readonly #wakeWriter = new Set<() => void>();
  #resolveClosed: (error: HearthError | undefined) => void = () => undefined;
  #writes: Promise<unknown> = Promise.resolve();
  #sendSequence = 0;
  #receiveSequence = 0;
  #credit = windowBytes;
  #unreadBytes = 0;
  #owedBytes = 0;
  #sentEnd = false;
  #ending = false;
  #receivedEnd = false;
  #over = false;
  #error: HearthError | undefined;

  constructor(options: BusStreamOptions) {
    this.#connection = options.connection;
    this.#sendSubject = options.sendSubject;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    const heartbeatMs = options.heartbeatMs ?? 5_000;
    this.#heartbeat = setInterval(() => this.#send(FrameKind.heartbeat, empty), heartbeatMs);
    this.#idle = setTimeout(
      () =>
        this.#close(new HearthError("unavailable", { message: "The other end of the stream went silent." })),
      options.idleLimitMs ?? 3 * heartbeatMs,
    );
    this.#subscription = options.connection.subscribe(options.receiveSubject, {
      callback: (error, message) => {
        if (error !== null) this.#close(refusedBy(error) ?? new HearthError("unavailable", { cause: error }));
        else this.#receive(message.data);
      },
    });
    this.#refusal = options.refusals?.ofPublish(options.sendSubject, (error) => this.#close(error));
    // Also resolves when the whole connection is closed, of which nothing else would tell the waiters.
    void this.#subscription.closed.then(() => this.#close(new HearthError("unavailable")));
  }

  /** Bytes sent that the peer's reader has not taken; never more than `windowBytes`. */
  get inFlightBytes(): number {
    return windowBytes - this.#credit;
  }

  /** Bytes received and not yet read; never more than `windowBytes`. */
  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** Resolves when the message is on its way; waits while the peer has a full window unread. */
  write(message: Uint8Array, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (message.length > maxMessageBytes) {
      return Promise.reject(new HearthError("payload_too_large", { details: { maxMessageBytes } }));
    }
    if (this.#ending) {
      return Promise.reject(new HearthError("invalid_argument", { message: "The stream was ended." }));
    }
    return this.#inOrder(async () => {
      while (this.#credit < costOf(message) && !this.#over) await wake(this.#wakeWriter, options.signal);
      if (options.signal?.aborted) throw new HearthError("cancelled", { cause: options.signal.reason });
      this.#throwIfOver();
      this.#credit -= costOf(message);
      this.#send(FrameKind.data, message);
    });
  }

  /** Half-close: no more messages from here; what the peer sends can still be read. */
  end(): Promise<void> {
    if (this.#ending) return this.#writes.then(() => undefined);
    this.#ending = true;
    return this.#inOrder(async () => {
      if (this.#over) return;
      this.#send(FrameKind.end, empty);
      this.#sentEnd = true;
      this.#closeIfDone();
    });
  }

  /** Ends both ways at once; the peer reads what it already has and then gets the error. */
  fail(reason: unknown): void {
    if (this.#over) return;
    const error = HearthError.from(reason);
    this.#send(FrameKind.error, new TextEncoder().encode(JSON.stringify(error.toWire())));
    this.#inbox.length = 0;
    this.#unreadBytes = 0;
    this.#close(error);
  }

  /** The next message, or undefined after the peer's end. Throws the error that closed the stream. */
  async read(options: { readonly signal?: AbortSignal } = {}): Promise<Uint8Array | undefined> {
    while (this.#inbox.length === 0) {
      if (this.#receivedEnd) return undefined;
      this.#throwIfOver();
      await wake(this.#wakeReader, options.signal);
    }
    const message = this.#inbox.shift();
    if (message === undefined) return undefined;
    this.#unreadBytes -= costOf(message);
    this.#owedBytes += costOf(message);
    if (this.#owedBytes >= creditStepBytes) {
      this.#send(FrameKind.credit, encodeCredit(this.#owedBytes));
      this.#owedBytes = 0;
    }
    return message;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    let message = await this.read();
    while (message !== undefined) {
      yield message;
      message = await this.read();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.fail(new HearthError("cancelled"));
  }

  #receive(bytes: Uint8Array): void {
    if (this.#over) return;
    try {
      const frame = decodeFrame(bytes);
      if (frame.sequence !== this.#receiveSequence) {
        throw new HearthError("unavailable", { message: "The stream lost a part of what was sent." });
      }
      this.#receiveSequence = (this.#receiveSequence + 1) >>> 0;
      this.#idle.refresh();
      this.#take(frame);
    } catch (error) {
      this.fail(error);
    }
  }

  #take(frame: Frame): void {
    switch (frame.kind) {
      case FrameKind.data:
        if (this.#receivedEnd || this.#unreadBytes + costOf(frame.body) > windowBytes) {
          throw new HearthError("payload_too_large", { message: "The other end sent more than it may." });
        }
        this.#inbox.push(frame.body);
        this.#unreadBytes += costOf(frame.body);
        wakeAll(this.#wakeReader);
        return;
      case FrameKind.credit:
        this.#credit = Math.min(windowBytes, this.#credit + decodeCredit(frame.body));
        wakeAll(this.#wakeWriter);
        return;
      case FrameKind.end:
        this.#receivedEnd = true;
        wakeAll(this.#wakeReader);
        this.#closeIfDone();
        return;
      case FrameKind.error:
        this.#close(HearthError.fromWire(JSON.parse(new TextDecoder().decode(frame.body))));
        return;
      case FrameKind.heartbeat:
        return;
    }
  }

  #send(kind: FrameKind, body: Uint8Array): void {
    if (this.#over) return;
    try {
      this.#connection.publish(this.#sendSubject, encodeFrame(kind, this.#sendSequence, body));
      this.#sendSequence = (this.#sendSequence + 1) >>> 0;
    } catch (cause) {
      this.#close(new HearthError("unavailable", { cause }));
    }
  }

  #inOrder(step: () => Promise<void>): Promise<void> {
    const run = this.#writes.then(step);
    this.#writes = run.catch(() => undefined); // the caller of this step has the error; the next goes on
    return run;
  }

  #throwIfOver(): void {
    if (this.#over) throw this.#error ?? new HearthError("unavailable", { message: "The stream is closed." });
  }

  #closeIfDone(): void {
    if (this.#sentEnd && this.#receivedEnd) this.#close(undefined);
  }

  #close(error: HearthError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    clearInterval(this.#heartbeat);
    clearTimeout(this.#idle);
    this.#refusal?.[Symbol.dispose]();
    if (!this.#connection.isClosed()) this.#subscription.unsubscribe();
    wakeAll(this.#wakeReader);
    wakeAll(this.#wakeWriter);
    this.#resolveClosed(error);
  }
}

function wakeAll(waiters: Set<() => void>): void {
  for (const waiter of [...waiters]) waiter();
}

function wake(waiters: Set<() => void>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void) => (): void => {
      waiters.delete(woken);
      signal?.removeEventListener("abort", aborted);
      done();
    };
    const woken = settle(resolve);
    const aborted = settle(() => reject(new HearthError("cancelled", { cause: signal?.reason })));
    if (signal?.aborted) {
      aborted();
      return;
    }
    waiters.add(woken);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
