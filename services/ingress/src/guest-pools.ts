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
  /** They take nothing new, and something may be under way on them. */
  readonly #closing = new Map<PoolType, string>();

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

  /**
   * A machine takes no new requests. Connections that are idle close now and the others with their request, so that its
   * host sees when it is quiet, and no request is sent on a connection that its end is about to close.
   */
  retire(address: string): void {
    for (const [key, { pool }] of this.#pools) {
      if (key.startsWith(`${address} `)) this.#close(key, pool);
    }
  }

  /** Those that nobody used; what is under way on one goes on. */
  sweep(): void {
    const oldMs = performance.now() - idlePoolMs;
    for (const [key, { pool, usedMs }] of this.#pools) {
      if (usedMs <= oldMs) this.#close(key, pool);
    }
  }

  /** Breaks off what is under way with a guest whose host is gone: nothing else would end it for minutes. */
  drop(address: string, port: number): void {
    const key = `${address} ${port}`;
    const kept = this.#pools.get(key);
    if (kept !== undefined) this.#close(key, kept.pool);
    for (const [pool, of] of this.#closing) if (of === key) void pool.destroy().catch(() => undefined);
  }

  async stop(): Promise<void> {
    for (const [key, { pool }] of this.#pools) this.#close(key, pool);
    await Promise.all([...this.#closing.keys()].map((pool) => pool.destroy()));
  }

  #close(key: string, pool: PoolType): void {
    this.#pools.delete(key);
    this.#closing.set(pool, key);
    const forget = (): void => void this.#closing.delete(pool);
    void pool.close().then(forget, forget);
  }
}
