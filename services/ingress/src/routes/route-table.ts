/**
 * Where traffic can go: the machines of the region by app and by id, kept as facts arrive.
 *
 * A change costs the same however many machines there are. Of two nodes that both claim a machine, the one counts that
 * `countingClaim` says, and a node that was fenced before none that was not: of a machine that only such a node has,
 * the name is known and nothing goes there. Machines of an app mostly have the same services, so those are kept once.
 */
import type { Fact, Replica } from "@hearth/cluster";
import {
  believedClaim,
  countingClaim,
  factKeys,
  factPrefixes,
  type LeaseFact,
  type NodeFact,
  type NodePolicyFact,
  type NodeStanding,
  nodeStanding,
  type PlacementFact,
  readClaimKey,
  withClaim,
  withoutClaim,
} from "@hearth/machine";
import { type Endpoint, endpointOf, type Service, servicesOf } from "./endpoint.ts";

const maxSharedServices = 10_000;

export interface PortClaim {
  readonly app: string;
  readonly first: number;
  readonly last: number;
}

/** What it needs of a replica, which is already started. */
export type RouteFacts = Pick<Replica, "get" | "scan" | "watch" | "forget">;

/** A machine before and after a fact; undefined where it was no route, or is none any more. */
export interface EndpointChange {
  readonly before: Endpoint | undefined;
  readonly after: Endpoint | undefined;
}

export class RouteTable {
  readonly #replica: RouteFacts;
  readonly #endpoints = new Map<string, Endpoint>();
  /** Where it is not the one claim that counts as it is: all claims. */
  readonly #contested = new Map<string, readonly Endpoint[]>();
  readonly #apps = new Map<string, Map<string, Endpoint>>();
  readonly #services = new Map<string, readonly Service[]>();
  readonly #standings = new Map<string, NodeStanding>();
  readonly #watchers = new Set<(app: string) => void>();
  readonly #machineWatchers = new Set<(change: EndpointChange) => void>();

  constructor(replica: RouteFacts) {
    this.#replica = replica;
    for (const fact of replica.scan(factPrefixes.node)) this.#forgetUnsaid(fact);
    replica.watch(factPrefixes.node, (fact) => this.#forgetUnsaid(fact));
    for (const fact of replica.scan(factPrefixes.machine)) this.#take(fact);
    replica.watch(factPrefixes.machine, (fact) => this.#take(fact));
    replica.watch(factPrefixes.placement, ({ key }) => {
      const id = key.slice(factPrefixes.placement.length);
      this.#tell(this.#settle(id, this.#claimsOf(id)));
    });
    for (const prefix of [factPrefixes.lease, factPrefixes.nodePolicy])
      replica.watch(prefix, ({ key }) => this.#judge(key.slice(prefix.length)));
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
  watch(changed: (app: string) => void): Disposable {
    this.#watchers.add(changed);
    return { [Symbol.dispose]: () => void this.#watchers.delete(changed) };
  }

  /** After each change of a machine, before those who watch its app are told. A watcher must not throw. */
  watchMachines(changed: (change: EndpointChange) => void): Disposable {
    this.#machineWatchers.add(changed);
    return { [Symbol.dispose]: () => void this.#machineWatchers.delete(changed) };
  }

  #take({ key, value, revision }: Fact): void {
    const claimed = readClaimKey(key);
    if (claimed === undefined) return;
    const { nodeId, machineId } = claimed;
    const fact = believedClaim(claimed, value);
    const claims = this.#claimsOf(machineId);
    if (fact === undefined || fact.record.state === "destroyed") {
      this.#tell(this.#settle(machineId, withoutClaim(claims, nodeId)));
      return;
    }
    const services = this.#shared(servicesOf(fact.record.config));
    const endpoint = { ...endpointOf(fact), services, factRevision: revision };
    this.#tell(this.#settle(endpoint.id, withClaim(claims, endpoint)));
  }

  /** A node that has said again all that is so has said of what it left out that it is gone. */
  #forgetUnsaid({ value }: Fact): void {
    const node = value as NodeFact | undefined;
    if (node?.restated !== undefined) this.#replica.forget(factKeys.machine(node.node_id, ""), node.restated);
  }

  /** After a word about the node. Looks at all machines when it changes where they stand, which is seldom. */
  #judge(nodeId: string): void {
    const before = this.#standings.get(nodeId);
    this.#standings.delete(nodeId);
    if (before === undefined || before === this.#standingOf(nodeId)) return;
    const alone = [...this.#endpoints.values()].filter((endpoint) => endpoint.nodeId === nodeId);
    const contested = [...this.#contested].filter(([, claims]) =>
      claims.some((one) => one.nodeId === nodeId),
    );
    const ids = new Set([...alone.map(({ id }) => id), ...contested.map(([id]) => id)]);
    this.#tell([...ids].flatMap((id) => this.#settle(id, this.#claimsOf(id))));
  }

  #standingOf(nodeId: string): NodeStanding {
    const known = this.#standings.get(nodeId);
    if (known !== undefined) return known;
    const standing = nodeStanding(
      this.#replica.get(factKeys.lease(nodeId))?.value as LeaseFact | undefined,
      this.#replica.get(factKeys.nodePolicy(nodeId))?.value as NodePolicyFact | undefined,
    );
    this.#standings.set(nodeId, standing);
    return standing;
  }

  #claimsOf(id: string): readonly Endpoint[] {
    const only = this.#endpoints.get(id);
    return this.#contested.get(id) ?? (only === undefined ? [] : [only]);
  }

  /** Returns the apps that it changes something for. */
  #settle(id: string, claims: readonly Endpoint[]): string[] {
    const before = this.#endpoints.get(id);
    const after = this.#counting(id, claims);
    if (claims.length > 1 || claims[0] !== after) this.#contested.set(id, claims);
    else this.#contested.delete(id);
    if (before !== undefined) this.#leave(before);
    if (after !== undefined) this.#enter(after);
    for (const watcher of this.#machineWatchers) watcher({ before, after });
    return [before?.app, after?.app].filter((app) => app !== undefined);
  }

  #counting(id: string, claims: readonly Endpoint[]): Endpoint | undefined {
    const placed = this.#replica.get(factKeys.placement(id))?.value as PlacementFact | undefined;
    const there = countingClaim(claims, placed, (nodeId) => this.#standingOf(nodeId) === "there");
    if (there !== undefined) return there;
    const lost = countingClaim(claims, placed, (nodeId) => this.#standingOf(nodeId) !== "removed");
    return lost && { ...lost, state: "lost" };
  }

  #tell(apps: readonly string[]): void {
    for (const app of new Set(apps)) for (const watcher of this.#watchers) watcher(app);
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
