import { HearthError } from "@hearth/errors";

/** Waiting for a condition that is asked again whenever something of this worker has changed. */
export class ChangeWatch {
  readonly #watchers = new Set<() => void>();

  /** Something has changed. */
  notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** Resolves once `condition` holds; rejects with what it throws, and with the signal's reason. */
  until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        this.#watchers.delete(look);
        signal.removeEventListener("abort", aborted);
        settle();
      };
      const aborted = (): void => end(() => reject(HearthError.from(signal.reason)));
      const look = (): void => {
        try {
          if (condition()) end(resolve);
        } catch (error) {
          end(() => reject(error));
        }
      };
      if (signal.aborted) return aborted();
      this.#watchers.add(look);
      signal.addEventListener("abort", aborted, { once: true });
      look();
    });
  }
}
