/**
 * A typed client of the agent in a guest, over any byte stream to it.
 *
 * One stream carries one conversation. When the stream breaks, every call fails with
 * guest_channel_broken and the owner connects a new stream; nothing here reconnects, because only the owner
 * knows whether the machine still is the same one.
 */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { ConnectError } from "@connectrpc/connect";
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
  /** How often the handshake is repeated until it is answered. */
  readonly repeatMs?: number;
  /**
   * The guest was just started and this is its first host. What is said to it waits in the port until its agent
   * reads, so nothing has to be repeated; a cold guest needs 200 ms to read what repeating would pile up.
   */
  readonly booting?: boolean;
  /** How long a call without streams may take when its caller sets no limit. */
  readonly callLimitMs?: number;
  /** How long an agent may say nothing at all before its streams break; a machine may be paused for a copy. */
  readonly silenceLimitMs?: number;
  readonly nonce?: () => string;
}

/** In case that it was lost all the same. */
const bootingRepeatMs = 5_000;

/** Never dialled: the stream is already there. */
const authority = "http://guest";

class SessionManager extends Http2SessionManager {
  #listening = false;

  override async request(...request: Parameters<Http2SessionManager["request"]>) {
    const stream = await super.request(...request);
    // The library lets go of a session before its last error is out, and an error without a listener is fatal.
    if (!this.#listening) stream.session?.on("error", () => undefined);
    this.#listening = true;
    return stream;
  }
}

/**
 * Throws guest_unreachable when nobody answers in time, guest_channel_broken when the stream ends.
 *
 * The stream is a socket in all but name: over one that is made of JavaScript, Node 24 loses the replies of calls
 * without streams, which are there and closed before anybody can read them ("Premature close").
 */
export async function connectGuest(
  stream: Duplex,
  options: ConnectGuestOptions = {},
): Promise<GuestConnection> {
  const { timeoutMs = 30_000, callLimitMs = 30_000, silenceLimitMs = 120_000, booting = false } = options;
  const { repeatMs = booting ? bootingRepeatMs : 250 } = options;
  const nonce = options.nonce ?? (() => randomBytes(16).toString("hex"));
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  // An error that nobody listens for ends this process. Who calls sees that the stream is gone.
  stream.on("error", () => undefined);
  try {
    await synchronise(stream, { nonce: nonce(), repeatMs, signal });
  } catch (cause) {
    stream.destroy();
    if (cause instanceof HearthError) throw cause;
    throw new HearthError(timeout.aborted ? "guest_unreachable" : "cancelled", { cause });
  }
  let unused = true;
  let disposed = false;
  const sessionManager = new SessionManager(
    authority,
    {
      // Quiet is normal for a machine; closing the only stream to it for that is not.
      idleConnectionTimeoutMs: Number.POSITIVE_INFINITY,
      // A stream has no limit of its own: it lives as long as what it reports on, if the agent lives.
      pingIntervalMs: silenceLimitMs / 2,
      pingTimeoutMs: silenceLimitMs / 2,
    },
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
      // The libraries have many names for a lost stream, a cancellation among them, which is the caller's own wish.
      const isAnswer = thrown instanceof ConnectError && thrown.isWireError;
      if (!stream.destroyed || isAnswer) return guestError(thrown);
      return new HearthError(disposed ? "cancelled" : "guest_channel_broken", { cause: thrown });
    },
    async [Symbol.asyncDispose]() {
      disposed = true;
      sessionManager.abort();
      stream.destroy();
    },
  };
}
