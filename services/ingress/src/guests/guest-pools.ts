/**
 * Connections to guests: a pool for each place that is in use, closed when it was not for a while. Three ways lead to a
 * guest: undici for most requests, Node's client for bodies without a length, HTTP/2 where the service asks for it.
 */
import type { Pool as PoolType } from "undici";
import Pool from "undici/lib/dispatcher/pool.js";
import type { LoadedPlace } from "../choosing/choose-place.ts";
import type { IngressLimits } from "../limits.ts";
import { connectGuest, type GuestAddress } from "./connect-guest.ts";
import { sendChunked } from "./guest-http1.ts";
import { Http2Guest } from "./guest-http2.ts";
import type { GuestHandler, GuestRequest } from "./guest-request.ts";

interface Kept {
  readonly guest: GuestAddress;
  http1?: PoolType;
  http2?: Http2Guest;
  /** Ends what has a connection of its own; so many have one. */
  readonly gone: AbortController;
  alone: number;
  usedMs: number;
}

const idlePoolMs = 60_000;

export class GuestPools {
  readonly #limits: IngressLimits;
  readonly #kept = new Map<string, Kept>();
  /** They take nothing new, and something may be under way on them. */
  readonly #closing = new Map<Kept, string>();

  constructor(limits: IngressLimits) {
    this.#limits = limits;
  }

  dispatch({ endpoint, service, port }: LoadedPlace, request: GuestRequest, handler: GuestHandler): void {
    const kept = this.#keep(endpoint.address, service.internalPort);
    const { body } = request;
    if (port?.http.h2Backend === true) {
      kept.http2 ??= new Http2Guest(this.#limits, kept.guest);
      kept.http2.dispatch(request, handler);
      return;
    }
    if (body?.isChunked === true) {
      const { guest, gone } = kept;
      kept.alone += 1;
      const over = (): void => {
        kept.alone -= 1;
      };
      void sendChunked(
        { limits: this.#limits, guest, signal: gone.signal, over },
        { ...request, body },
        handler,
      );
      return;
    }
    kept.http1 ??= this.#open(kept.guest);
    kept.http1.dispatch(
      {
        path: request.path,
        method: request.method as "GET",
        headers: request.headers,
        body: body?.open() ?? null,
        bodyTimeout: request.idleMs,
      },
      handler,
    );
  }

  #keep(address: string, port: number): Kept {
    const key = `${address} ${port}`;
    const kept = this.#kept.get(key) ?? {
      guest: { address, port },
      gone: new AbortController(),
      alone: 0,
      usedMs: 0,
    };
    if (kept.usedMs === 0) this.#kept.set(key, kept);
    kept.usedMs = performance.now();
    return kept;
  }

  #open({ address, port }: GuestAddress): PoolType {
    const limits = this.#limits;
    return new Pool(`http://${address.includes(":") ? `[${address}]` : address}:${port}`, {
      connections: limits.guestConnections,
      // An answer that is late must not hold up another client's.
      pipelining: 1,
      connect: (_options, done) => {
        connectGuest({ address, port }, { limitMs: limits.connectMs }).then(
          (socket) => done(null, socket),
          (error: Error) => done(error, null),
        );
      },
      headersTimeout: limits.answerMs,
      bodyTimeout: limits.idleMs,
      keepAliveTimeout: limits.guestKeepAliveMs,
      keepAliveMaxTimeout: limits.guestKeepAliveMs,
      maxHeaderSize: limits.headerBytes,
      allowH2: false,
    });
  }

  /**
   * A machine takes no new requests. Connections that are idle close now and the others with their request, so that its
   * host sees when it is quiet, and no request is sent on a connection that its end is about to close.
   */
  retire(address: string): void {
    for (const [key, kept] of this.#kept) if (kept.guest.address === address) this.#forget(key, kept);
  }

  #forget(key: string, kept: Kept): void {
    this.#kept.delete(key);
    this.#closing.set(kept, key);
    kept.http2?.close();
    const closed = (): void => {
      delete kept.http1;
    };
    void kept.http1?.close().then(closed, closed);
  }

  /** Those that nobody used; what is under way on one goes on. */
  sweep(): void {
    const oldMs = performance.now() - idlePoolMs;
    for (const [key, kept] of this.#kept) if (kept.usedMs <= oldMs) this.#forget(key, kept);
    for (const kept of [...this.#closing.keys()])
      if (kept.http1 === undefined && kept.http2?.isBusy !== true && kept.alone === 0)
        this.#closing.delete(kept);
  }

  /** Breaks off what is under way with a guest whose host is gone: nothing else would end it for minutes. */
  drop(address: string, port: number): void {
    const key = `${address} ${port}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined) this.#forget(key, kept);
    for (const [closing, of] of this.#closing) if (of === key) void this.#destroy(closing);
  }

  async #destroy({ http1, http2, gone }: Kept): Promise<void> {
    gone.abort(new Error("The connection was given up."));
    http2?.destroy();
    await http1?.destroy().catch(() => undefined);
  }

  async stop(): Promise<void> {
    for (const [key, kept] of this.#kept) this.#forget(key, kept);
    await Promise.all([...this.#closing.keys()].map((kept) => this.#destroy(kept)));
  }
}
