/**
 * What the region knows of its nodes: leases, policies, placements, and for how long a lease was not renewed.
 *
 * Ages are counted on this process's own monotonic clock from the moment its replica got a fact, never from what a
 * node says of its time. Silence counts only while this process listens: one that was cut off, stopped or just
 * started has heard nothing of anybody, and says nothing about them by that.
 */
import type { Fact, Replica } from "@hearth/cluster";
import { factPrefixes, type LeaseFact, type NodePolicyFact, type PlacementFact } from "@hearth/machine";
import type { Revised } from "./cluster-view.ts";

export interface RegionStateDeps {
  readonly replica: Pick<Replica, "list" | "watch" | "ageMs">;
  readonly monotonicMs: () => number;
  /** A copy of the state that was compared with the stream this long ago is taken for the newest. */
  readonly currentMs?: number;
}

const defaultCurrentMs = 4_000;

export class RegionState {
  readonly #deps: RegionStateDeps;
  readonly #leases = new Map<string, Revised<LeaseFact>>();
  readonly #policies = new Map<string, Revised<NodePolicyFact>>();
  readonly #placements = new Map<string, Revised<PlacementFact>>();
  readonly #leaseHeardMs = new Map<string, number>();
  readonly #watchers = new Set<() => void>();
  #listeningSinceMs: number | undefined;
  #lookedMs = 0;

  /** @param deps `replica` already started */
  constructor(deps: RegionStateDeps) {
    this.#deps = deps;
    this.#follow(factPrefixes.lease, this.#leases, (node) => {
      this.#leaseHeardMs.set(node, deps.monotonicMs());
    });
    this.#follow(factPrefixes.nodePolicy, this.#policies);
    this.#follow(factPrefixes.placement, this.#placements);
  }

  lease(node: string): Revised<LeaseFact> | undefined {
    return this.#leases.get(node);
  }

  leases(): readonly Revised<LeaseFact>[] {
    return [...this.#leases.values()];
  }

  policy(node: string): Revised<NodePolicyFact> | undefined {
    return this.#policies.get(node);
  }

  policies(): readonly Revised<NodePolicyFact>[] {
    return [...this.#policies.values()];
  }

  placement(machineId: string): Revised<PlacementFact> | undefined {
    return this.#placements.get(machineId);
  }

  placements(): readonly Revised<PlacementFact>[] {
    return [...this.#placements.values()];
  }

  isRemoved(node: string): boolean {
    return this.#policies.get(node)?.value.removed !== undefined;
  }

  /** For how long the node has not renewed its lease while this process listened. */
  silentMs(node: string): number {
    const since = this.#listeningSinceMs;
    if (since === undefined) return 0;
    return this.#deps.monotonicMs() - Math.max(since, this.#leaseHeardMs.get(node) ?? since);
  }

  /** Whether this copy may be judged by: call it often, as time in which nobody called does not count. */
  listen(): boolean {
    const { replica, monotonicMs, currentMs = defaultCurrentMs } = this.#deps;
    const nowMs = monotonicMs();
    const slept = nowMs - this.#lookedMs > currentMs;
    this.#lookedMs = nowMs;
    const isCurrent = replica.ageMs <= currentMs;
    if (slept || !isCurrent) this.#listeningSinceMs = undefined;
    if (isCurrent) this.#listeningSinceMs ??= nowMs;
    return isCurrent && !slept;
  }

  /** After each change of a lease, a policy or a placement. */
  onChange(changed: () => void): Disposable {
    this.#watchers.add(changed);
    return { [Symbol.dispose]: () => void this.#watchers.delete(changed) };
  }

  #follow<T>(prefix: string, into: Map<string, Revised<T>>, heard?: (name: string) => void): void {
    const take = ({ key, value, revision }: Fact): void => {
      const name = key.slice(prefix.length);
      if (value === undefined) into.delete(name);
      else into.set(name, { value: value as T, revision });
    };
    for (const fact of this.#deps.replica.list(prefix)) take(fact);
    this.#deps.replica.watch(prefix, (fact) => {
      take(fact);
      heard?.(fact.key.slice(prefix.length));
      for (const changed of this.#watchers) changed();
    });
  }
}
