/** Answers of upstream resolvers, for as long as they hold, in so many bytes; the one unused for longest goes first. */
import type { UpstreamAnswer } from "./upstream-answer.ts";

const maxBytes = 8 * 1024 * 1024;
/** What an entry costs besides its records. */
const entryBytes = 512;

interface Entry {
  readonly answer: UpstreamAnswer;
  readonly storedAtMs: number;
  readonly bytes: number;
}

export interface Kept {
  readonly answer: UpstreamAnswer;
  /** Whole seconds; TTLs that go out are smaller by them. */
  readonly ageSeconds: number;
}

export class ForwardCache {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(options: { readonly monotonicMs?: () => number; readonly maxBytes?: number } = {}) {
    this.#now = options.monotonicMs ?? (() => performance.now());
    this.#maxBytes = options.maxBytes ?? maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): Kept | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#delete(key, entry);
    const ageMs = this.#now() - entry.storedAtMs;
    if (ageMs >= entry.answer.ttlSeconds * 1_000) return undefined;
    this.#add(key, entry);
    return { answer: entry.answer, ageSeconds: Math.floor(ageMs / 1_000) };
  }

  put(key: string, answer: UpstreamAnswer): void {
    if (answer.ttlSeconds <= 0) return;
    const old = this.#entries.get(key);
    if (old !== undefined) this.#delete(key, old);
    const bytes = entryBytes + 2 * key.length + answer.records.length + 8 * answer.ttlOffsets.length;
    this.#add(key, { answer, storedAtMs: this.#now(), bytes });
    for (const [first, entry] of this.#entries) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#delete(first, entry);
    }
  }

  #add(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
  }

  #delete(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}
