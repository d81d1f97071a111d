/**
 * The right of one process to deal with the authority for one name. Each write is a compare-and-set on the fact that it
 * read last, so whoever has been overtaken writes nothing more: the `term` tells people how often that was. While it is
 * held the fact changes every few seconds; others take it when they have heard no change for `silentMs`.
 */
import { HearthError } from "@hearth/errors";
import { type AcmeFact, factKeys } from "@hearth/machine";
import { type WriteDeps, writeFact } from "../state/write-fact.ts";

export interface HoldLimits {
  readonly beatMs: number;
  readonly silentMs: number;
}

export const defaultHoldLimits: HoldLimits = { beatMs: 5_000, silentMs: 25_000 };

export class AcmeHold {
  readonly #deps: WriteDeps;
  readonly #lost = new AbortController();
  #fact: AcmeFact;
  #revision: number;
  #writing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  private constructor(deps: WriteDeps, fact: AcmeFact, revision: number) {
    this.#deps = deps;
    this.#fact = fact;
    this.#revision = revision;
  }

  /** Undefined when somebody else was first. */
  static async take(
    deps: WriteDeps,
    fact: AcmeFact,
    { expected, limits }: { readonly expected: number; readonly limits: HoldLimits },
  ): Promise<AcmeHold | undefined> {
    const write = { key: factKeys.acme(fact.hostname), value: fact, expectedRevision: expected };
    const revision = await writeFact(deps, write).catch((thrown: unknown) => {
      if (HearthError.from(thrown).code === "conflict") return undefined;
      throw thrown;
    });
    if (revision === undefined) return undefined;
    const hold = new AcmeHold(deps, fact, revision);
    hold.#timer = setInterval(() => {
      // What it fails of, the next write fails of too.
      hold.write((now) => ({ beat: now.beat + 1 })).catch(() => undefined);
    }, limits.beatMs).unref();
    return hold;
  }

  get fact(): AcmeFact {
    return this.#fact;
  }

  /** Aborted when somebody else has the right. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** In the order of the calls. @throws HearthError `conflict` when the right is lost */
  write(change: (now: AcmeFact) => Partial<AcmeFact>): Promise<void> {
    const written = this.#writing.then(async () => {
      this.#lost.signal.throwIfAborted();
      const next = { ...this.#fact, ...change(this.#fact) };
      try {
        this.#revision = await writeFact(this.#deps, {
          key: factKeys.acme(next.hostname),
          value: next,
          expectedRevision: this.#revision,
        });
        this.#fact = next;
      } catch (thrown) {
        // One that is in doubt leaves a revision that nobody here knows, so it is the end of the right too.
        clearInterval(this.#timer);
        this.#lost.abort(HearthError.from(thrown));
        throw thrown;
      }
    });
    this.#writing = written.catch(() => undefined);
    return written;
  }

  /** Gives the right back with the last word. */
  async release(change: (now: AcmeFact) => Partial<AcmeFact>): Promise<void> {
    clearInterval(this.#timer);
    await this.write((now) => ({ ...change(now), holder: undefined }));
  }

  /** Without a word, as a process that ends does; others hear that. */
  async abandon(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
  }
}
