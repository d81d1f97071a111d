/**
 * The clock of writes: the host's in microseconds, and always above what this process has written or read. So a
 * write that follows from another one has the higher clock, whatever the clocks of the two hosts say (a hybrid
 * logical clock: Kulkarni et al., 2014, with both of its parts in one number).
 */
const jumpMicroseconds = 24 * 3600 * 1_000_000;

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

  /**
   * After a loss: above whatever was written before it and has not been read here, unless two hosts' clocks are a day
   * apart. There is room for tens of thousands of losses.
   */
  jump(): void {
    this.see(this.next() + jumpMicroseconds);
  }

  /** Takes notice of a clock that was read. */
  see(clock: number): void {
    // One absurd clock must not leave no number above it.
    if (clock > this.#last && clock < Number.MAX_SAFE_INTEGER / 2) this.#last = clock;
  }
}
