import { errorRegistry, type HearthErrorCode } from "./registry.ts";

export interface HearthErrorOptions {
  /** Public text; the registry's text when absent. Never the cause's text. */
  readonly message?: string;
  /** For logs only; does not cross a border. */
  readonly cause?: unknown;
  /** Public, structured facts: field names, limits, states. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** An error as it crosses a border (HTTP or bus). */
export interface WireError {
  readonly code: HearthErrorCode;
  readonly message: string;
  readonly retryable: boolean;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The only error type that leaves a component. Branch on `code`, never on `message`. */
export class HearthError extends Error {
  readonly code: HearthErrorCode;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(code: HearthErrorCode, options: HearthErrorOptions = {}) {
    super(options.message ?? errorRegistry[code].text, { cause: options.cause });
    this.name = "HearthError";
    this.code = code;
    this.details = options.details;
  }

  get status(): number {
    return errorRegistry[this.code].status;
  }

  get retryable(): boolean {
    return errorRegistry[this.code].retryable;
  }

  toWire(): WireError {
    const wire: WireError = { code: this.code, message: this.message, retryable: this.retryable };
    return this.details === undefined ? wire : { ...wire, details: this.details };
  }

  /** Anything thrown becomes a HearthError; what is not one is `internal`, with the original as its cause. */
  static from(thrown: unknown): HearthError {
    return thrown instanceof HearthError ? thrown : new HearthError("internal", { cause: thrown });
  }

  /** Reads a wire error of a peer; a code this version does not know becomes `internal`, its text kept. */
  static fromWire(wire: { code?: unknown; message?: unknown; details?: unknown }): HearthError {
    const code =
      typeof wire.code === "string" && Object.hasOwn(errorRegistry, wire.code)
        ? (wire.code as HearthErrorCode)
        : "internal";
    const options: { message?: string; details?: Record<string, unknown> } = {};
    if (typeof wire.message === "string") options.message = wire.message;
    if (typeof wire.details === "object" && wire.details !== null)
      options.details = wire.details as Record<string, unknown>;
    return new HearthError(code, options);
  }
}
