/**
 * The clock of writes: the host's in microseconds, and always above what this process has written or read. So a
 * write that follows from another one has the higher clock, whatever the clocks of the two hosts say (a hybrid
 * logical clock: Kulkarni et al., 2014, with both of its parts in one number).
 */
export class WriteClock {
  readonly #nowMs: () => number;
  #last = 0;

  constructor(nowMs: () => number = Date.now) {
    this.#nowMs = nowMs;
  }

  next(): number {
    this.#last = Math.max(Math.floor(this.#nowMs() * 1_000), this.#last + 1);
    return this.#last;
  }

  /** Takes notice of a clock that was read. */
  see(clock: number): void {
    // One absurd clock must not leave no number above it.
    if (clock > this.#last && clock < Number.MAX_SAFE_INTEGER / 2) this.#last = clock;
  }
}
