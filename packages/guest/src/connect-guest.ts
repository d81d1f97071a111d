/**
 * A typed client of the agent in a guest, over any byte stream to it.
 *
 * One stream carries one conversation. When the stream breaks, every call fails with
 * guest_channel_broken and the owner connects a new stream; nothing here reconnects, because only the owner
 * knows whether the machine still is the same one.
 */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { HearthError } from "@hearth/errors";
import { createGuestClient, type GuestClient } from "./guest-client.ts";
import { guestError } from "./guest-error.ts";
import { synchronise } from "./synchronise.ts";

export interface GuestConnection extends AsyncDisposable {
  readonly client: GuestClient;
  /** What a call threw, as Hearth's own error; a call that ended with the stream is guest_channel_broken. */
  error(thrown: unknown): HearthError;
}

export interface ConnectGuestOptions {
  readonly signal?: AbortSignal;
  /** How long the agent may take to answer, a boot included. */
  readonly timeoutMs?: number;
  readonly repeatMs?: number;
  /** How long a call without streams may take when its caller sets no limit. */
  readonly callLimitMs?: number;
  readonly nonce?: () => string;
}

/** Never dialled: the stream is already there. */
const authority = "http://guest";

/** Throws guest_unreachable when nobody answers in time, guest_channel_broken when the stream ends. */
export async function connectGuest(
  stream: Duplex,
  options: ConnectGuestOptions = {},
): Promise<GuestConnection> {
  const { timeoutMs = 30_000, repeatMs = 250, callLimitMs = 30_000 } = options;
  const nonce = options.nonce ?? (() => randomBytes(16).toString("hex"));
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  try {
    await synchronise(stream, { nonce: nonce(), repeatMs, signal });
  } catch (cause) {
    stream.destroy();
    if (cause instanceof HearthError) throw cause;
    throw new HearthError(timeout.aborted ? "guest_unreachable" : "cancelled", { cause });
  }
  let unused = true;
  let disposed = false;
  const sessionManager = new Http2SessionManager(
    authority,
    // Quiet is normal for a machine; closing the only stream to it for that is not.
    { idleConnectionTimeoutMs: Number.POSITIVE_INFINITY },
    {
      createConnection: () => {
        if (!unused || stream.destroyed) throw new HearthError("guest_channel_broken");
        unused = false;
        return stream;
      },
    },
  );
  const transport = createGrpcTransport({ baseUrl: authority, sessionManager });
  return {
    client: createGuestClient(transport, callLimitMs),
    error(thrown) {
      // The HTTP/2 library calls a lost stream a cancellation, which is the word for the caller's own wish.
      if (stream.destroyed && !disposed) return new HearthError("guest_channel_broken", { cause: thrown });
      return guestError(thrown);
    },
    async [Symbol.asyncDispose]() {
      disposed = true;
      sessionManager.abort();
      stream.destroy();
    },
  };
}
