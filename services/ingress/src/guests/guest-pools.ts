/**
 * Connections to guests: a pool for each place that is in use, closed when it was not for a while. Two ways lead to a
 * guest: HTTP/2 where the service asks for it, and HTTP/1.1.
 */
import type { LoadedPlace } from "../choosing/choose-place.ts";
import type { IngressLimits } from "../limits.ts";
import type { GuestAddress } from "./connect-guest.ts";
import { Http1Guest } from "./guest-http1.ts";
import { Http2Guest } from "./guest-http2.ts";
import type { GuestHandler, GuestRequest } from "./guest-request.ts";

interface Kept {
  readonly guest: GuestAddress;
  http1?: Http1Guest;
  http2?: Http2Guest;
  usedMs: number;
}

const idlePoolMs = 60_000;

export class GuestPools {
  readonly #limits: IngressLimits;
  readonly #kept = new Map<string, Kept>();
  /** They take nothing new, and something may be under way on them. */
  readonly #closing = new Map<Kept, string>();
  readonly #timer: NodeJS.Timeout;

  constructor(limits: IngressLimits) {
    this.#limits = limits;
    const shortestMs = Math.min(limits.answerMs, limits.idleMs, limits.guestKeepAliveMs);
    this.#timer = setInterval(() => this.#look(), Math.min(500, Math.max(10, shortestMs / 4))).unref();
  }

  dispatch({ endpoint, service, port }: LoadedPlace, request: GuestRequest, handler: GuestHandler): void {
    const kept = this.#keep(endpoint.address, service.internalPort);
    if (port?.http.h2Backend === true) {
      kept.http2 ??= new Http2Guest(this.#limits, kept.guest);
      kept.http2.dispatch(request, handler);
      return;
    }
    kept.http1 ??= new Http1Guest(this.#limits, kept.guest);
    kept.http1.dispatch(request, handler);
  }

  #look(): void {
    const nowMs = performance.now();
    for (const { http1 } of this.#kept.values()) http1?.look(nowMs);
    for (const { http1 } of this.#closing.keys()) http1?.look(nowMs);
  }

  #keep(address: string, port: number): Kept {
    const key = `${address} ${port}`;
    const kept = this.#kept.get(key) ?? { guest: { address, port }, usedMs: 0 };
    if (kept.usedMs === 0) this.#kept.set(key, kept);
    kept.usedMs = performance.now();
    return kept;
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
    kept.http1?.close();
    kept.http2?.close();
  }

  /** Those that nobody used; what is under way on one goes on. */
  sweep(): void {
    const oldMs = performance.now() - idlePoolMs;
    for (const [key, kept] of this.#kept) if (kept.usedMs <= oldMs) this.#forget(key, kept);
    for (const kept of [...this.#closing.keys()])
      if (kept.http1?.isBusy !== true && kept.http2?.isBusy !== true) this.#closing.delete(kept);
  }

  /** Breaks off what is under way with a guest whose host is gone: nothing else would end it for minutes. */
  drop(address: string, port: number): void {
    const key = `${address} ${port}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined) this.#forget(key, kept);
    for (const [closing, of] of this.#closing) if (of === key) destroy(closing);
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const [key, kept] of this.#kept) this.#forget(key, kept);
    for (const kept of this.#closing.keys()) destroy(kept);
  }
}

function destroy({ http1, http2 }: Kept): void {
  http1?.destroy();
  http2?.destroy();
}
