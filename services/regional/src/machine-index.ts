/**
 * The machines of the region by id and by app. A key names the node that published it, and the bus lets a node
 * publish under its own name only; what a body says of another node is not believed. Of two nodes that both claim a
 * machine, the one counts that its placement names, or that was known first where it never moved.
 */
import type { Fact, Replica } from "@hearth/cluster";
import {
  factKeys,
  factPrefixes,
  type MachineFact,
  type NodePolicyFact,
  type PlacementFact,
} from "@hearth/machine";

type Watcher = (fact: MachineFact | undefined) => void;

export class MachineIndex {
  readonly #replica: Replica;
  /** By id: the facts that there are, the one that was known first being first. */
  readonly #claims = new Map<string, MachineFact[]>();
  readonly #ofApp = new Map<string, Set<string>>();
  readonly #watchers = new Map<string, Set<Watcher>>();

  /** @param replica already started */
  constructor(replica: Replica) {
    this.#replica = replica;
    for (const fact of replica.list(factPrefixes.machine).sort((a, b) => a.revision - b.revision))
      this.#take(fact);
    replica.watch(factPrefixes.machine, (fact) => this.#take(fact));
    replica.watch(factPrefixes.placement, ({ key }) => this.#tell(key.slice(factPrefixes.placement.length)));
  }

  find(id: string): MachineFact | undefined {
    const claims = this.claims(id);
    const placed = this.#replica.get(factKeys.placement(id))?.value as PlacementFact | undefined;
    const there = claims.find(({ node_id }) => node_id === placed?.node_id);
    // What an old node still says of a machine that it has lost for good is no news of it.
    return there ?? (placed?.state === "moved" ? undefined : claims[0]);
  }

  /** What every node says of the machine, also one that has lost it. */
  claims(id: string): readonly MachineFact[] {
    return (this.#claims.get(id) ?? []).filter(({ node_id }) => !this.#isRemoved(node_id));
  }

  /** Only a node may delete what it said, and one that was removed from the region does not any more. */
  #isRemoved(nodeId: string): boolean {
    const policy = this.#replica.get(factKeys.nodePolicy(nodeId))?.value as NodePolicyFact | undefined;
    return policy?.removed !== undefined;
  }

  all(): MachineFact[] {
    return [...this.#claims.keys()].sort().flatMap((id) => this.find(id) ?? []);
  }

  ofApp(app: string): MachineFact[] {
    const found = [...(this.#ofApp.get(app) ?? [])].sort().flatMap((id) => this.find(id) ?? []);
    return found.filter((fact) => fact.app === app);
  }

  watch(id: string, onChange: Watcher): Disposable {
    const watchers = this.#watchers.get(id) ?? new Set();
    this.#watchers.set(id, watchers.add(onChange));
    return {
      [Symbol.dispose]: () => {
        watchers.delete(onChange);
        if (watchers.size === 0) this.#watchers.delete(id);
      },
    };
  }

  #take({ key, value }: Fact): void {
    const [, nodeId, id] = key.split(".");
    if (nodeId === undefined || id === undefined) return;
    const fact = value as MachineFact | undefined;
    const others = (this.#claims.get(id) ?? []).filter(({ node_id }) => node_id !== nodeId);
    if (fact === undefined || fact.node_id !== nodeId || fact.record.id !== id) this.#set(id, others);
    else {
      const known = this.#claims.get(id)?.findIndex(({ node_id }) => node_id === nodeId) ?? -1;
      this.#set(id, known < 0 ? [...others, fact] : others.toSpliced(known, 0, fact));
    }
    this.#tell(id);
  }

  #set(id: string, claims: MachineFact[]): void {
    for (const { app } of this.#claims.get(id) ?? []) this.#ofApp.get(app)?.delete(id);
    if (claims.length === 0) this.#claims.delete(id);
    else this.#claims.set(id, claims);
    for (const { app } of claims) {
      const ids = this.#ofApp.get(app) ?? new Set();
      this.#ofApp.set(app, ids.add(id));
    }
  }

  #tell(id: string): void {
    const watchers = this.#watchers.get(id);
    if (watchers === undefined) return;
    const fact = this.find(id);
    for (const watcher of [...watchers]) watcher(fact);
  }
}
