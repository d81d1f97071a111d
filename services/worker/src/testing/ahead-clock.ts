/** The host's clock, which a test can put ahead: what sleeps until then wakes at once. */
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../worker-deps.ts";

interface Sleeper {
  /** As it was asked for. */
  readonly ms: number;
  readonly untilMs: number;
  readonly wake: () => void;
}

/** A timer of Node takes no more; here more is slept in pieces. */
const longestMs = 2 ** 31 - 1;

export class AheadClock implements Clock {
  #aheadMs = 0;
  readonly #sleepers = new Set<Sleeper>();
  readonly #watchers = new Set<() => void>();

  nowMs(): number {
    return Date.now() + this.#aheadMs;
  }

  /** For how long what sleeps now asked to. */
  get sleeps(): number[] {
    return [...this.#sleepers].map(({ ms }) => ms);
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const moved = new AbortController();
    const sleeper = { ms, untilMs: this.nowMs() + ms, wake: () => moved.abort() };
    this.#sleepers.add(sleeper);
    for (const watcher of [...this.#watchers]) watcher();
    const either = signal === undefined ? moved.signal : AbortSignal.any([moved.signal, signal]);
    for (let leftMs = ms; leftMs > 0 && !either.aborted; leftMs = sleeper.untilMs - this.nowMs())
      await delay(Math.min(leftMs, longestMs), undefined, { signal: either }).catch(() => undefined);
    this.#sleepers.delete(sleeper);
    signal?.throwIfAborted();
  }

  advance(ms: number): void {
    this.#aheadMs += ms;
    for (const sleeper of [...this.#sleepers]) {
      if (sleeper.untilMs > this.nowMs()) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
  }

  /** Resolves when something sleeps that asked for so long. */
  asleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!this.sleeps.includes(ms)) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }
}
