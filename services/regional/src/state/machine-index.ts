/**
 * The machines of the region by id and by app. Of each it holds what lists and placement choose by; the record stays
 * in the replica until somebody asks for it.
 *
 * Of two nodes that both claim a machine, the one counts that `countingClaim` says.
 */
import type { Fact, Replica } from "@hearth/cluster";
import {
  believedClaim,
  countingClaim,
  factKeys,
  factPrefixes,
  type MachineFact,
  type MachineState,
  type NodePolicyFact,
  nodeStanding,
  type PlacementFact,
  readClaimKey,
  withClaim,
  withoutClaim,
} from "@hearth/machine";

export interface MachineSummary {
  readonly id: string;
  readonly app: string;
  readonly nodeId: string;
  readonly region: string;
  readonly state: MachineState;
  readonly updatedMs: number;
  /** Of the fact in the replica. */
  readonly factRevision: number;
}

interface MachinesOfApp {
  readonly ids: Set<string>;
  /** Machines that are not destroyed, by node. */
  readonly perNode: Map<string, number>;
}

type Watcher = (fact: MachineFact | undefined) => void;

const none: ReadonlyMap<string, number> = new Map();

export class MachineIndex {
  readonly #replica: Pick<Replica, "get" | "scan" | "watch">;
  /** The one that counts. */
  readonly #machines = new Map<string, MachineSummary>();
  /** Where it is not the one claim that counts: all claims, the one that was known first being first. */
  readonly #contested = new Map<string, readonly MachineSummary[]>();
  readonly #apps = new Map<string, MachinesOfApp>();
  readonly #watchers = new Map<string, Set<Watcher>>();
  readonly #removed = new Set<string>();
  /** One string for each name that a million machines say. */
  readonly #names = new Map<string, string>();

  /** @param replica already started */
  constructor(replica: Pick<Replica, "get" | "scan" | "watch">) {
    this.#replica = replica;
    for (const fact of replica.scan(factPrefixes.machine)) this.take(fact);
    for (const { key } of replica.scan(factPrefixes.nodePolicy)) {
      const nodeId = key.slice(factPrefixes.nodePolicy.length);
      if (this.#isRemoved(nodeId)) this.#removed.add(nodeId);
    }
    replica.watch(factPrefixes.machine, (fact) => this.take(fact));
    replica.watch(factPrefixes.placement, ({ key }) => {
      const id = key.slice(factPrefixes.placement.length);
      this.#settle(id, this.#claimsOf(id));
      this.#tell(id);
    });
    replica.watch(factPrefixes.nodePolicy, ({ key }) => {
      const nodeId = key.slice(factPrefixes.nodePolicy.length);
      const isRemoved = this.#isRemoved(nodeId);
      if (isRemoved === this.#removed.has(nodeId)) return;
      if (isRemoved) this.#removed.add(nodeId);
      else this.#removed.delete(nodeId);
      for (const id of this.#idsOn(nodeId)) {
        this.#settle(id, this.#claimsOf(id));
        this.#tell(id);
      }
    });
  }

  get size(): number {
    return this.#machines.size;
  }

  has(id: string): boolean {
    return this.#machines.has(id);
  }

  find(id: string): MachineFact | undefined {
    const found = this.#machines.get(id);
    return found && this.#factOf(found);
  }

  /** What every node says of the machine, also one that has lost it. */
  claims(id: string): readonly MachineFact[] {
    return this.#claimsOf(id)
      .filter(({ nodeId }) => !this.#isRemoved(nodeId))
      .flatMap((claim) => this.#factOf(claim) ?? []);
  }

  /** By id. */
  summaries(app?: string): MachineSummary[] {
    if (app === undefined)
      return [...this.#machines.keys()].sort().flatMap((id) => this.#machines.get(id) ?? []);
    return [...(this.#apps.get(app)?.ids ?? [])].sort().flatMap((id) => this.#machines.get(id) ?? []);
  }

  ofApp(app: string): MachineFact[] {
    return this.summaries(app).flatMap(({ id }) => this.find(id) ?? []);
  }

  /** How many machines of the app each node has, without those that are destroyed. */
  perNode(app: string): ReadonlyMap<string, number> {
    return this.#apps.get(app)?.perNode ?? none;
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

  take({ key, value, revision }: Fact): void {
    const claimed = readClaimKey(key);
    if (claimed === undefined) return;
    const fact = believedClaim(claimed, value);
    // The id of the record, because the one cut out of the key would keep the whole key in memory.
    const id = fact?.record.id ?? claimed.machineId;
    const claims = this.#claimsOf(id);
    this.#settle(
      id,
      fact === undefined
        ? withoutClaim(claims, claimed.nodeId)
        : withClaim(claims, this.#summaryOf(fact, revision)),
    );
    this.#tell(id);
  }

  #factOf({ id, nodeId }: MachineSummary): MachineFact | undefined {
    return this.#replica.get(factKeys.machine(nodeId, id))?.value as MachineFact | undefined;
  }

  /** Looks at all machines, as a node is seldom removed. */
  #idsOn(nodeId: string): string[] {
    const alone = [...this.#machines.values()].filter((machine) => machine.nodeId === nodeId);
    const contested = [...this.#contested].filter(([, claims]) =>
      claims.some((claim) => claim.nodeId === nodeId),
    );
    return [...new Set([...alone.map(({ id }) => id), ...contested.map(([id]) => id)])];
  }

  /** Only a node may delete what it said, and one that was removed from the region does not any more. */
  #isRemoved(nodeId: string): boolean {
    const policy = this.#replica.get(factKeys.nodePolicy(nodeId))?.value as NodePolicyFact | undefined;
    return nodeStanding(undefined, policy) === "removed";
  }

  #claimsOf(id: string): readonly MachineSummary[] {
    const only = this.#machines.get(id);
    return this.#contested.get(id) ?? (only === undefined ? [] : [only]);
  }

  #settle(id: string, claims: readonly MachineSummary[]): void {
    const before = this.#machines.get(id);
    const after = this.#winner(id, claims);
    if (claims.length > 1 || (claims.length === 1 && after === undefined)) this.#contested.set(id, claims);
    else this.#contested.delete(id);
    if (after === undefined) this.#machines.delete(id);
    else this.#machines.set(id, after);
    if (before !== undefined) this.#leave(before, after);
    if (after !== undefined) this.#enter(after);
  }

  /** Also of a node that is fenced: the API answers for a machine that nobody can reach. */
  #winner(id: string, claims: readonly MachineSummary[]): MachineSummary | undefined {
    const placed = this.#replica.get(factKeys.placement(id))?.value as PlacementFact | undefined;
    return countingClaim(claims, placed, (nodeId) => !this.#isRemoved(nodeId));
  }

  #enter({ app, id, nodeId, state }: MachineSummary): void {
    const there = this.#apps.get(app) ?? { ids: new Set(), perNode: new Map() };
    this.#apps.set(app, there);
    there.ids.add(id);
    if (state !== "destroyed") there.perNode.set(nodeId, (there.perNode.get(nodeId) ?? 0) + 1);
  }

  #leave({ app, id, nodeId, state }: MachineSummary, next: MachineSummary | undefined): void {
    const there = this.#apps.get(app);
    if (there === undefined) return;
    const left = (there.perNode.get(nodeId) ?? 0) - 1;
    if (state !== "destroyed") {
      if (left > 0) there.perNode.set(nodeId, left);
      else there.perNode.delete(nodeId);
    }
    if (next?.app === app) return;
    there.ids.delete(id);
    if (there.ids.size === 0) this.#apps.delete(app);
  }

  #summaryOf({ app, node_id, record }: MachineFact, factRevision: number): MachineSummary {
    return {
      id: record.id,
      app: this.#name(app),
      nodeId: this.#name(node_id),
      region: this.#name(record.region),
      state: this.#name(record.state) as MachineState,
      updatedMs: Date.parse(record.updated_at),
      factRevision,
    };
  }

  #name(text: string): string {
    const known = this.#names.get(text);
    if (known !== undefined) return known;
    this.#names.set(text, text);
    return text;
  }

  #tell(id: string): void {
    const watchers = this.#watchers.get(id);
    if (watchers === undefined) return;
    const fact = this.find(id);
    for (const watcher of [...watchers]) watcher(fact);
  }
}
