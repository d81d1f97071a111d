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
  /** By address and then by port, so that no text is made to look for one. */
  readonly #kept = new Map<string, Map<number, Kept>>();
  /** They take nothing new, and something may be under way on them. */
  readonly #closing = new Set<Kept>();
  /** As of the last look, which is exact enough. */
  #nowMs = performance.now();
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
    this.#nowMs = performance.now();
    for (const { http1 } of this.#all()) http1?.look(this.#nowMs);
    for (const { http1 } of this.#closing) http1?.look(this.#nowMs);
  }

  #keep(address: string, port: number): Kept {
    const known = this.#kept.get(address)?.get(port);
    if (known !== undefined) {
      known.usedMs = this.#nowMs;
      return known;
    }
    const kept: Kept = { guest: { address, port }, usedMs: this.#nowMs };
    this.#kept.set(address, (this.#kept.get(address) ?? new Map<number, Kept>()).set(port, kept));
    return kept;
  }

  /**
   * A machine takes no new requests. Connections that are idle close now and the others with their request, so that its
   * host sees when it is quiet, and no request is sent on a connection that its end is about to close.
   */
  retire(address: string): void {
    for (const kept of this.#kept.get(address)?.values() ?? []) this.#forget(kept);
  }

  #forget(kept: Kept): void {
    const { address, port } = kept.guest;
    const byPort = this.#kept.get(address);
    byPort?.delete(port);
    if (byPort?.size === 0) this.#kept.delete(address);
    this.#closing.add(kept);
    kept.http1?.close();
    kept.http2?.close();
  }

  /** Those that nobody used; what is under way on one goes on. */
  sweep(): void {
    const oldMs = performance.now() - idlePoolMs;
    for (const kept of this.#all()) if (kept.usedMs <= oldMs) this.#forget(kept);
    for (const kept of this.#closing)
      if (kept.http1?.isBusy !== true && kept.http2?.isBusy !== true) this.#closing.delete(kept);
  }

  /** Breaks off what is under way with a guest whose host is gone: nothing else would end it for minutes. */
  drop(address: string, port: number): void {
    const kept = this.#kept.get(address)?.get(port);
    if (kept !== undefined) this.#forget(kept);
    for (const closing of this.#closing)
      if (closing.guest.address === address && closing.guest.port === port) destroy(closing);
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const kept of this.#all()) this.#forget(kept);
    for (const kept of this.#closing) destroy(kept);
  }

  #all(): Kept[] {
    return [...this.#kept.values()].flatMap((byPort) => [...byPort.values()]);
  }
}

function destroy({ http1, http2 }: Kept): void {
  http1?.destroy();
  http2?.destroy();
}
