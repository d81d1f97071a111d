/**
 * Which app has which port of the host for itself: pure over the route table. A port that speaks HTTP is shared by
 * name; any other has nothing that would tell apps apart, so the app that is there longest has it, and another one that
 * wants it goes without until the first lets go.
 */
import type { RouteTable } from "./route-table.ts";

export interface PortOwner {
  readonly app: string;
  /** TLS ends here, and the machine gets what is within. */
  readonly tls: boolean;
}

export interface PortRule {
  /** Of the front door itself and of the host's own services. */
  readonly reserved: ReadonlySet<number>;
  readonly max: number;
  readonly createdMs: (app: string) => number;
}

interface Range {
  readonly first: number;
  readonly last: number;
  readonly tls: boolean;
}

/** Below these are ports of the host. */
const firstPublicPort = 1_024;

export class PortClaims {
  readonly #table: RouteTable;
  readonly #rangesOf = new Map<string, readonly Range[]>();

  readonly #passing = new Set<string>();
  readonly #watchers = new Set<() => void>();

  constructor(table: RouteTable) {
    this.#table = table;
    for (const app of table.apps()) this.#look(app);
    table.watch((app) => {
      if (this.#look(app)) for (const watcher of this.#watchers) watcher();
    });
  }

  /** After each change of what apps claim. */
  watch(changed: () => void): Disposable {
    this.#watchers.add(changed);
    return { [Symbol.dispose]: () => void this.#watchers.delete(changed) };
  }

  /** After a change of the app. True when what it claims has changed. */
  #look(app: string): boolean {
    const seen = new Set<unknown>();
    const ranges = new Map<string, Range>();
    for (const { services } of this.#table.ofApp(app)) {
      if (seen.has(services)) continue;
      seen.add(services);
      for (const { ports } of services)
        for (const { first, last, handlers } of ports) {
          if (handlers.has("http")) continue;
          const tls = handlers.has("tls");
          ranges.set(`${first}-${last}-${tls}`, { first, last, tls });
        }
    }
    const before = JSON.stringify(this.#rangesOf.get(app) ?? []);
    const now = [...ranges.values()].sort((one, other) => one.first - other.first || one.last - other.last);
    if (now.some(({ first, last, tls }) => !tls && first <= 443 && 443 <= last)) this.#passing.add(app);
    else this.#passing.delete(app);
    if (now.length === 0) this.#rangesOf.delete(app);
    else this.#rangesOf.set(app, now);
    return JSON.stringify(now) !== before;
  }

  /** Whether any app ends TLS itself, so that the name has to be read before a connection is anybody's. */
  get anyPassThrough(): boolean {
    return this.#passing.size > 0;
  }

  owners({ reserved, max, createdMs }: PortRule): ReadonlyMap<number, PortOwner> {
    const owners = new Map<number, PortOwner>();
    const apps = [...this.#rangesOf.keys()].sort(
      (one, other) => createdMs(one) - createdMs(other) || (one < other ? -1 : 1),
    );
    for (const app of apps)
      for (const { first, last, tls } of this.#rangesOf.get(app) ?? [])
        for (let port = Math.max(first, firstPublicPort); port <= last; port += 1) {
          if (owners.size >= max) return owners;
          if (!reserved.has(port) && !owners.has(port)) owners.set(port, { app, tls });
        }
    return owners;
  }
}
