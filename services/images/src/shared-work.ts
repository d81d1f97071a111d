/**
 * One piece of work for all who want the same thing at the same time. The work goes on while anybody
 * waits; when the last one gives up, it is aborted.
 */
export class SharedWork<T> {
  readonly #running = new Map<
    string,
    { promise: Promise<T>; controller: AbortController; waiting: number }
  >();

  async run(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    let shared = this.#running.get(key);
    // Work that is being aborted still holds its files: wait for it to end, then start afresh.
    while (shared?.controller.signal.aborted) {
      await shared.promise.catch(() => undefined);
      shared = this.#running.get(key);
    }
    const job = shared ?? this.#start(key, work);
    job.waiting++;
    const gaveUp = Promise.withResolvers<never>();
    const onAbort = (): void => gaveUp.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([job.promise, gaveUp.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
      if (--job.waiting === 0) job.controller.abort();
    }
  }

  #start(key: string, work: (signal: AbortSignal) => Promise<T>) {
    const controller = new AbortController();
    const promise = work(controller.signal).finally(() => this.#running.delete(key));
    promise.catch(() => undefined);
    const job = { promise, controller, waiting: 0 };
    this.#running.set(key, job);
    return job;
  }
}
