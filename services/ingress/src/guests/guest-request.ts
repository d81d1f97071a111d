/** What an exchange asks of a guest, and what it is told; the same for HTTP/1.1 and HTTP/2. */
import type { ForwardedHead } from "../http/forward-headers.ts";
import type { RequestBody } from "../http/request-body.ts";

export interface GuestRequest {
  readonly method: string;
  readonly path: string;
  readonly head: ForwardedHead;
  readonly body: RequestBody | undefined;
  /** In which nothing moves. */
  readonly idleMs: number;
}

export interface GuestControl {
  /** Name, value, name, value. */
  readonly rawHeaders: readonly string[] | null;
  readonly rawTrailers: readonly string[] | null;
  /** Nothing follows the head. */
  readonly isWhole?: boolean;
  pause(): void;
  resume(): void;
  abort(reason: Error): void;
}

export interface GuestHandler {
  /** There is a connection, and the request is sent now. What fails before was not seen by the guest. */
  onRequestStart(control: GuestControl): void;
  onResponseStart(control: GuestControl, status: number, statusText: string): void;
  onResponseData(control: GuestControl, chunk: Buffer): void;
  /** Instead of it: all there is of a short body, of one byte a character; the end is told next. */
  onResponseText(control: GuestControl, text: string): void;
  /** All is told of what was read at once, and the answer goes on. */
  onResponseRead(control: GuestControl): void;
  onResponseEnd(control: GuestControl): void;
  onResponseError(error: Error): void;
}

/** Methods that may be sent again when it is not known whether the guest has acted on them. */
const repeatable: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);
export const isRepeatable = (method: string): boolean => repeatable.has(method);

export const guestBroke = (): Error =>
  Object.assign(new Error("The guest closed the connection."), { code: "GUEST_CLOSED" });

/** @param hasAnswered it has begun to */
export const guestSilent = (hasAnswered: boolean): Error => {
  const what = hasAnswered ? "in the middle of its answer" : "and has not answered";
  return Object.assign(new Error(`The guest was silent for too long, ${what}.`), { code: "GUEST_SILENT" });
};

/** A failure of which the guest has said that it did not act on the request. */
export class NotActedOn extends Error {
  readonly code = "REFUSED_STREAM";
}

/** The guest reset the stream; its client may be told by the same code. */
export class StreamReset extends Error {
  readonly code = "STREAM_RESET";
  readonly rstCode: number;
  constructor(rstCode: number) {
    super(`The guest reset the stream (${rstCode}).`);
    this.rstCode = rstCode;
  }
}
