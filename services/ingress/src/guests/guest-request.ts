/**
 * What an exchange asks of a guest, and what it is told. The shape is that of undici's dispatcher, by which most
 * requests go, so that these cost nothing more; the other ways to a guest keep to it.
 */
import type { RequestBody } from "../http/request-body.ts";

export interface GuestRequest {
  readonly method: string;
  readonly path: string;
  /** Name, value, name, value. */
  readonly headers: string[];
  readonly body: RequestBody | undefined;
  /** In which nothing moves. */
  readonly idleMs: number;
}

export interface GuestControl {
  /** Name, value, name, value, each a text or its bytes; undici's own types leave that open. */
  readonly rawHeaders?: unknown;
  readonly rawTrailers?: unknown;
  /** Nothing follows the head. */
  readonly isWhole?: boolean;
  pause(): void;
  resume(): void;
  abort(reason: Error): void;
}

export interface GuestHandler {
  /** There is a connection, and the request is sent now. What fails before was not seen by the guest. */
  onRequestStart(control: GuestControl): void;
  onResponseStart(control: GuestControl, status: number, headers: unknown, message?: string): void;
  onResponseData(control: GuestControl, chunk: Buffer): void;
  onResponseEnd(control: GuestControl): void;
  onResponseError(control: unknown, error: Error): void;
}

export const asHeaderList = (raw: unknown): readonly (Buffer | string)[] =>
  Array.isArray(raw) ? (raw as (Buffer | string)[]) : [];

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
