/**
 * Progress for somebody who may read slowly: the newest is sent, what it overtook is not. A download reports
 * each chunk, and a message for each would fill the stream's window long before anybody reads it.
 */
import type { ImageMessage } from "@hearth/machine";
import type { ImageProgress } from "./image-build.ts";

const intervalMs = 200;

export class ProgressReport {
  readonly #send: (message: ImageMessage) => Promise<void>;
  readonly #now: () => number;
  #sending: Promise<void> | undefined;
  #waiting: ImageMessage | undefined;
  #phase: string | undefined;
  #lastAtMs = 0;

  constructor(send: (message: ImageMessage) => Promise<void>, now: () => number = Date.now) {
    this.#send = send;
    this.#now = now;
  }

  add(progress: ImageProgress): void {
    const fresh = progress.phase !== this.#phase;
    const complete = progress.phase === "downloading" && progress.doneBytes === progress.totalBytes;
    if (!fresh && !complete && this.#now() - this.#lastAtMs < intervalMs) return;
    this.#phase = progress.phase;
    this.#lastAtMs = this.#now();
    const { phase, ...rest } = progress;
    this.#waiting = { kind: phase, ...rest } as ImageMessage;
    this.#sending ??= this.#drain();
  }

  /** Resolves when nothing is on its way any more, so that `done` comes last. */
  async end(): Promise<void> {
    await this.#sending;
  }

  async #drain(): Promise<void> {
    try {
      while (this.#waiting !== undefined) {
        const message = this.#waiting;
        this.#waiting = undefined;
        await this.#send(message);
      }
    } catch {
      // The stream is over. The work learns of it by its signal, and `done` fails with the reason.
      this.#waiting = undefined;
    } finally {
      this.#sending = undefined;
    }
  }
}
