/**
 * Connections to guests: a pool for each place that is in use, closed when it was not for a while. Three ways lead to a
 * guest: undici for most requests, Node's client for bodies without a length, HTTP/2 where the service asks for it.
 */
import type { Pool as PoolType } from "undici";
import Pool from "undici/lib/dispatcher/pool.js";
import type { LoadedPlace } from "./choose-place.ts";
import { connectGuest, type GuestAddress } from "./connect-guest.ts";
import { sendChunked } from "./guest-http1.ts";
import { Http2Guest } from "./guest-http2.ts";
import type { GuestHandler, GuestRequest } from "./guest-request.ts";
import type { IngressLimits } from "./limits.ts";

interface Kept {
  readonly guest: GuestAddress;
  http1?: PoolType;
  http2?: Http2Guest;
  usedMs: number;
}

const idlePoolMs = 60_000;

export class GuestPools {
  readonly #limits: IngressLimits;
  readonly #kept = new Map<string, Kept>();

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
      void sendChunked(this.#limits, kept.guest, { ...request, body }, handler);
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
    const kept = this.#kept.get(key) ?? { guest: { address, port }, usedMs: 0 };
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

  /** Those that nobody used; what is under way on one goes on. */
  sweep(): void {
    const oldMs = performance.now() - idlePoolMs;
    for (const [key, { http1, http2, usedMs }] of this.#kept) {
      // What waits for a stream there would otherwise be left alone.
      if (usedMs > oldMs || http2?.isBusy === true) continue;
      this.#kept.delete(key);
      void http1?.close().catch(() => undefined);
      http2?.close();
    }
  }

  async stop(): Promise<void> {
    const kept = [...this.#kept.values()];
    this.#kept.clear();
    for (const { http2 } of kept) http2?.destroy();
    await Promise.all(kept.map(({ http1 }) => http1?.destroy()));
  }
}
