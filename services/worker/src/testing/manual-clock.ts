/** A clock that stands still until it is moved. */
import type { Clock } from "../worker-deps.ts";

interface Sleeper {
  readonly untilMs: number;
  readonly wake: () => void;
}

export class ManualClock implements Clock {
  #nowMs: number;
  readonly #sleepers = new Set<Sleeper>();
  readonly #watchers = new Set<() => void>();

  constructor(nowMs = 1_700_000_000_000) {
    this.#nowMs = nowMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  /** How many timers there are. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  /** The timers there are, as milliseconds from now. */
  get pauses(): number[] {
    return [...this.#sleepers].map(({ untilMs }) => untilMs - this.#nowMs).sort((one, other) => one - other);
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const end = (settle: () => void) => (): void => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener("abort", abort);
        this.#tell();
        settle();
      };
      const abort = end(() => reject(signal?.reason));
      const sleeper = { untilMs: this.#nowMs + ms, wake: end(resolve) };
      signal?.addEventListener("abort", abort, { once: true });
      this.#sleepers.add(sleeper);
      this.#tell();
    });
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    for (const sleeper of [...this.#sleepers]) if (sleeper.untilMs <= this.#nowMs) sleeper.wake();
  }

  /** Resolves when the timers are these, as milliseconds from now. */
  until(...pauses: readonly number[]): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.pauses.join() !== pauses.join()) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  #tell(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
