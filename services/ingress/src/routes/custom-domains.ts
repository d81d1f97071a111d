/** Which app a custom domain belongs to, as facts say it. A claim of an app that is no more leads nowhere. */
import type { Fact, Replica } from "@hearth/cluster";
import { type AppFact, factKeys, factPrefixes, type HostnameFact } from "@hearth/machine";

export class CustomDomains {
  readonly #replica: Pick<Replica, "get" | "scan" | "watch">;
  readonly #claims = new Map<string, HostnameFact>();
  readonly #watchers = new Set<(app: string) => void>();

  /** @param replica already started */
  constructor(replica: Pick<Replica, "get" | "scan" | "watch">) {
    this.#replica = replica;
    for (const fact of replica.scan(factPrefixes.hostname)) this.#take(fact);
    replica.watch(factPrefixes.hostname, (fact) => this.#take(fact));
  }

  /** Undefined when it is nobody's. */
  claimOf(hostname: string): HostnameFact | undefined {
    const claim = this.#claims.get(hostname);
    if (claim === undefined) return undefined;
    const app = this.#replica.get(factKeys.app(claim.app))?.value as AppFact | undefined;
    return app?.id === claim.app_id ? claim : undefined;
  }

  appOf(hostname: string): string | undefined {
    return this.claimOf(hostname)?.app;
  }

  /** After an app got a name, or lost one. A watcher must not throw. */
  watch(changed: (app: string) => void): void {
    this.#watchers.add(changed);
  }

  #take({ key, value }: Fact): void {
    const hostname = key.slice(factPrefixes.hostname.length);
    const before = this.#claims.get(hostname);
    const after = value as HostnameFact | undefined;
    if (after === undefined) this.#claims.delete(hostname);
    else this.#claims.set(hostname, after);
    const apps = new Set([before?.app, after?.app]);
    for (const app of apps) if (app !== undefined) for (const watcher of this.#watchers) watcher(app);
  }
}
