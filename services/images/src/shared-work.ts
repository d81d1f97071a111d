/**
 * One piece of work for all who want the same thing at the same time. The work goes on while anybody
 * waits. When the last one gives up it is aborted, and that caller waits for its end, so that nothing
 * writes behind anybody's back; the work must therefore honour its signal.
 */
export class SharedWork<T> {
  readonly #running = new Map<string, SharedJob<T>>();

  async run(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    let job = this.#running.get(key);
    // Work that is being aborted still holds its files: let it end, then start afresh.
    while (job?.controller.signal.aborted) {
      await job.promise.catch(() => undefined);
      signal.throwIfAborted();
      job = this.#running.get(key);
    }
    job ??= this.#start(key, work);
    return await this.#join(job, signal);
  }

  async #join(job: SharedJob<T>, signal: AbortSignal): Promise<T> {
    job.waiting++;
    const gaveUp = Promise.withResolvers<never>();
    const onAbort = (): void => gaveUp.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([job.promise, gaveUp.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
      if (--job.waiting === 0) {
        job.controller.abort();
        await job.promise.catch(() => undefined);
      }
    }
  }

  #start(key: string, work: (signal: AbortSignal) => Promise<T>): SharedJob<T> {
    const controller = new AbortController();
    const promise = work(controller.signal).finally(() => this.#running.delete(key));
    promise.catch(() => undefined);
    const job = { promise, controller, waiting: 0 };
    this.#running.set(key, job);
    return job;
  }
}

interface SharedJob<T> {
  readonly promise: Promise<T>;
  readonly controller: AbortController;
  waiting: number;
}
