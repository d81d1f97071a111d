/**
 * Where traffic can go: the machines of the region by app and by id, kept as facts arrive.
 *
 * A change costs the same however many machines there are. Of two nodes that both claim a machine, the one counts that
 * its placement names, or that was known first: what an old node still says of a machine that was moved is no route.
 * Machines of an app mostly have the same services, so those are kept once.
 */
import type { Fact, Replica } from "@hearth/cluster";
import { factKeys, factPrefixes, type MachineFact, type PlacementFact } from "@hearth/machine";
import { type Endpoint, endpointOf, type Service, servicesOf } from "./endpoint.ts";

const maxSharedServices = 10_000;

export interface PortClaim {
  readonly app: string;
  readonly first: number;
  readonly last: number;
}

/** A machine before and after a fact; undefined where it was no route, or is none any more. */
export interface EndpointChange {
  readonly before: Endpoint | undefined;
  readonly after: Endpoint | undefined;
}

type Watcher = (app: string, change: EndpointChange) => void;

export class RouteTable {
  readonly #replica: Pick<Replica, "get" | "scan" | "watch">;
  readonly #endpoints = new Map<string, Endpoint>();
  /** Where there is more than one claim, or one that does not count: all, the first known first. */
  readonly #contested = new Map<string, readonly Endpoint[]>();
  readonly #apps = new Map<string, Map<string, Endpoint>>();
  readonly #services = new Map<string, readonly Service[]>();
  readonly #watchers = new Set<Watcher>();

  /** @param replica already started */
  constructor(replica: Pick<Replica, "get" | "scan" | "watch">) {
    this.#replica = replica;
    for (const fact of replica.scan(factPrefixes.machine)) this.#take(fact);
    replica.watch(factPrefixes.machine, (fact) => this.#take(fact));
    replica.watch(factPrefixes.placement, ({ key }) => {
      const id = key.slice(factPrefixes.placement.length);
      this.#settle(id, this.#claimsOf(id));
    });
  }

  get size(): number {
    return this.#endpoints.size;
  }

  machine(id: string): Endpoint | undefined {
    return this.#endpoints.get(id);
  }

  ofApp(app: string): Iterable<Endpoint> {
    return this.#apps.get(app)?.values() ?? [];
  }

  apps(): Iterable<string> {
    return this.#apps.keys();
  }

  /** After each change of an app's machines. A watcher must not throw. */
  watch(changed: Watcher): Disposable {
    this.#watchers.add(changed);
    return { [Symbol.dispose]: () => void this.#watchers.delete(changed) };
  }

  #take({ key, value }: Fact): void {
    const [, nodeId, keyId] = key.split(".");
    if (nodeId === undefined || keyId === undefined) return;
    const fact = value as MachineFact | undefined;
    const isBelieved = fact !== undefined && fact.node_id === nodeId && fact.record.id === keyId;
    const claims = this.#claimsOf(keyId);
    if (!isBelieved || fact.record.state === "destroyed") {
      this.#settle(
        keyId,
        claims.filter((claim) => claim.nodeId !== nodeId),
      );
      return;
    }
    const endpoint = { ...endpointOf(fact), services: this.#shared(servicesOf(fact.record.config)) };
    const at = claims.findIndex((claim) => claim.nodeId === nodeId);
    this.#settle(fact.record.id, at < 0 ? [...claims, endpoint] : claims.with(at, endpoint));
  }

  #claimsOf(id: string): readonly Endpoint[] {
    const only = this.#endpoints.get(id);
    return this.#contested.get(id) ?? (only === undefined ? [] : [only]);
  }

  #settle(id: string, claims: readonly Endpoint[]): void {
    const before = this.#endpoints.get(id);
    const placed = this.#replica.get(factKeys.placement(id))?.value as PlacementFact | undefined;
    const there = claims.find(({ nodeId }) => nodeId === placed?.node_id);
    const after = there ?? (placed?.state === "moved" ? undefined : claims[0]);
    if (claims.length > 1 || (claims.length === 1 && after === undefined)) this.#contested.set(id, claims);
    else this.#contested.delete(id);
    if (before !== undefined) this.#leave(before);
    if (after !== undefined) this.#enter(after);
    const changed = new Set([before?.app, after?.app]);
    for (const app of changed)
      if (app !== undefined) for (const watcher of this.#watchers) watcher(app, { before, after });
  }

  #enter(endpoint: Endpoint): void {
    this.#endpoints.set(endpoint.id, endpoint);
    const there = this.#apps.get(endpoint.app) ?? new Map<string, Endpoint>();
    this.#apps.set(endpoint.app, there.set(endpoint.id, endpoint));
  }

  #leave({ id, app }: Endpoint): void {
    this.#endpoints.delete(id);
    const there = this.#apps.get(app);
    there?.delete(id);
    if (there?.size === 0) this.#apps.delete(app);
  }

  #shared(services: readonly Service[]): readonly Service[] {
    const key = JSON.stringify(services, (_, value) => (value instanceof Set ? [...value] : value));
    const known = this.#services.get(key);
    if (known !== undefined) return known;
    if (this.#services.size >= maxSharedServices) this.#services.clear();
    this.#services.set(key, services);
    return services;
  }
}
