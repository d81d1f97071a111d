/** Connections to guests: a pool for each place that is in use, closed when it was not for a while. */
import type { Pool as PoolType } from "undici";
import Pool from "undici/lib/dispatcher/pool.js";
import type { IngressLimits } from "./limits.ts";

interface Kept {
  readonly pool: PoolType;
  usedMs: number;
}

const idlePoolMs = 60_000;

export class GuestPools {
  readonly #limits: IngressLimits;
  readonly #pools = new Map<string, Kept>();

  constructor(limits: IngressLimits) {
    this.#limits = limits;
  }

  pool(address: string, port: number): PoolType {
    const key = `${address} ${port}`;
    const kept = this.#pools.get(key);
    if (kept !== undefined) {
      kept.usedMs = performance.now();
      return kept.pool;
    }
    const limits = this.#limits;
    const pool = new Pool(`http://${address.includes(":") ? `[${address}]` : address}:${port}`, {
      connections: limits.guestConnections,
      // An answer that is late must not hold up another client's.
      pipelining: 1,
      connectTimeout: limits.connectMs,
      headersTimeout: limits.answerMs,
      bodyTimeout: limits.idleMs,
      keepAliveTimeout: limits.guestKeepAliveMs,
      keepAliveMaxTimeout: limits.guestKeepAliveMs,
      maxHeaderSize: limits.headerBytes,
      allowH2: false,
    });
    this.#pools.set(key, { pool, usedMs: performance.now() });
    return pool;
  }

  /** Those that nobody used; what is under way on one goes on. */
  sweep(): void {
    const oldMs = performance.now() - idlePoolMs;
    for (const [key, { pool, usedMs }] of this.#pools) {
      if (usedMs > oldMs) continue;
      this.#pools.delete(key);
      void pool.close().catch(() => undefined);
    }
  }

  /** Breaks off what is under way with a guest whose host is gone: nothing else would end it for minutes. */
  drop(address: string, port: number): void {
    const key = `${address} ${port}`;
    const kept = this.#pools.get(key);
    this.#pools.delete(key);
    void kept?.pool.destroy().catch(() => undefined);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#pools.values()].map(({ pool }) => pool.destroy()));
    this.#pools.clear();
  }
}
