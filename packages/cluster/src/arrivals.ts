/**
 * Which of what arrives from the stream is news to a copy: what was published while it followed, and not what had piled
 * up, was put back after a loss, or came with a stream that took another's place.
 */
import type { Arrival } from "./replica-options.ts";

/** A feed that was not confirmed for so long may bring what is old. */
const liveLimitMs = 5_000;

export interface Arrived {
  readonly sequence: number;
  /** Where and as what it was written first. */
  readonly stream: string;
  readonly revision: number;
}

export class Arrivals {
  /** What the stream has beyond this revision was published while the copy followed. */
  #liveAfter = Number.POSITIVE_INFINITY;
  /** Monotonic: when the stream last answered. */
  #confirmedAtMs = Number.NEGATIVE_INFINITY;
  #oldUpTo = 0;

  /** The stream answers, and has so much. */
  confirm(lastRevision: number): void {
    if (!this.#isConfirmed) this.#liveAfter = lastRevision;
    this.#confirmedAtMs = performance.now();
  }

  /** The feed begins again: what the stream has had piled up. */
  beginAt(lastRevision: number): void {
    this.#liveAfter = lastRevision;
    this.#confirmedAtMs = performance.now();
  }

  /**
   * The copy follows this stream from now on. What it has already, when it takes the place of another, may be from
   * before that one; nobody writes by a copy that is not settled, so what is new in it is what was put back.
   */
  follow(lastRevision: number, { isAnother }: { readonly isAnother: boolean }): void {
    this.#oldUpTo = isAnother ? lastRevision : 0;
  }

  /** @param followed the stream that the copy follows */
  kindOf({ sequence, stream, revision }: Arrived, followed: string): Arrival {
    const isFirst = stream === followed && revision === sequence;
    return {
      isLive: sequence > this.#liveAfter && this.#isConfirmed,
      isPutBack: !isFirst || sequence <= this.#oldUpTo,
    };
  }

  get #isConfirmed(): boolean {
    return performance.now() - this.#confirmedAtMs <= liveLimitMs;
  }
}
