/**
 * How new a copy is known to be: as of the last look at the stream whose end it has reached since. A stream that never
 * rests is always a little ahead of its copy, so the two are not compared at one moment: a look sets a mark, and the
 * copy counts from the moment of the look once it has passed the mark.
 */
export class FeedCheck {
  #mark: { readonly atMs: number; readonly revision: number } | undefined;
  #stoodAt = -1;

  /** Takes a look at the stream. False when the copy has not moved since the look before, and should have. */
  look(atMs: number, lastRevision: number, revision: number): boolean {
    // A mark that is not passed yet stays: one that is moved on with each look may never be passed.
    this.#mark ??= { atMs, revision: lastRevision };
    const stands = revision < lastRevision && revision === this.#stoodAt;
    this.#stoodAt = revision < lastRevision ? revision : -1;
    return !stands;
  }

  /** The moment as of which the copy is the newest, when it has just passed the mark. */
  passed(revision: number): number | undefined {
    if (this.#mark === undefined || revision < this.#mark.revision) return undefined;
    const { atMs } = this.#mark;
    this.#mark = undefined;
    return atMs;
  }
}
