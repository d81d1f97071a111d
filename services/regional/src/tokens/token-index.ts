/**
 * The tokens of the region by the hash of their id, from the replica. A token counts only while its fact is here: a
 * copy that lags, or lost something, refuses a token that is good and never serves one that was revoked.
 */
import type { Fact, Replica } from "@hearth/cluster";
import { factPrefixes, type TokenFact } from "@hearth/machine";

export interface KnownToken extends TokenFact {
  readonly hash: string;
  readonly revision: number;
}

export class TokenIndex {
  readonly #known = new Map<string, KnownToken>();
  readonly #watchers = new Set<() => void>();

  /** @param replica already started */
  constructor(replica: Replica) {
    for (const fact of replica.list(factPrefixes.token)) this.#take(fact);
    replica.watch(factPrefixes.token, (fact) => {
      this.#take(fact);
      for (const watcher of [...this.#watchers]) watcher();
    });
  }

  find(hash: string): KnownToken | undefined {
    return this.#known.get(hash);
  }

  /** By hash, so that pages of them hold together. */
  all(): KnownToken[] {
    return [...this.#known.values()].sort((a, b) => (a.hash < b.hash ? -1 : 1));
  }

  watch(onChange: () => void): Disposable {
    this.#watchers.add(onChange);
    return { [Symbol.dispose]: () => void this.#watchers.delete(onChange) };
  }

  /** Resolves when the token is known, or at the limit: it may have been issued elsewhere a moment ago. */
  async untilKnown(hash: string, limitMs: number): Promise<void> {
    if (this.#known.has(hash)) return;
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        clearTimeout(timer);
        watching[Symbol.dispose]();
        resolve();
      };
      const timer = setTimeout(settle, limitMs);
      const watching = this.watch(() => {
        if (this.#known.has(hash)) settle();
      });
    });
  }

  #take({ key, value, revision }: Fact): void {
    const hash = key.slice(factPrefixes.token.length);
    if (value === undefined) this.#known.delete(hash);
    else this.#known.set(hash, { ...(value as TokenFact), hash, revision });
  }
}
