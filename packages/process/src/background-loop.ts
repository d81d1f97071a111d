/** Work that goes on beside everything else, from when its owner starts it until the owner lets go of it. */
export class BackgroundLoop {
  readonly #run: (signal: AbortSignal) => Promise<void>;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;

  /** @param run resolves soon after its signal is aborted, and never rejects */
  constructor(run: (signal: AbortSignal) => Promise<void>) {
    this.#run = run;
  }

  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

  /** The first call counts. */
  start(): void {
    this.#running ??= this.#run(this.signal);
  }

  /** Resolves when the work has ended, or at once where it never began. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }
}
