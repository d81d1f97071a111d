/** So many tries in so long, for each key. It remembers no more keys than `maxKeys`: a flood of new ones is one key. */
export interface RateLimitOptions {
  readonly tries: number;
  readonly perMs: number;
  readonly maxKeys?: number;
}

interface Window {
  readonly sinceMs: number;
  tries: number;
}

export class RateLimit {
  readonly #options: RateLimitOptions;
  readonly #windows = new Map<string, Window>();

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  admit(key: string, nowMs: number): boolean {
    const { tries, perMs, maxKeys = 1_000 } = this.#options;
    if (!this.#windows.has(key) && this.#windows.size >= maxKeys) this.#forget(nowMs);
    const name = this.#windows.has(key) || this.#windows.size < maxKeys ? key : "others";
    const last = this.#windows.get(name);
    const window = last !== undefined && nowMs - last.sinceMs < perMs ? last : { sinceMs: nowMs, tries: 0 };
    window.tries += 1;
    this.#windows.set(name, window);
    return window.tries <= tries;
  }

  #forget(nowMs: number): void {
    for (const [key, { sinceMs }] of this.#windows)
      if (nowMs - sinceMs >= this.#options.perMs) this.#windows.delete(key);
  }
}
