/**
 * The nodes of the region, ready to be asked for the best one: kept in order as facts arrive, so that a decision
 * looks at a few nodes and not at all of them. The order is that of `rankNodes`.
 *
 * How old a fact is, is measured here on a monotonic clock from when it arrived live: the clock of a node may be an
 * hour off, and what was read from the disk or had piled up says nothing about now.
 */
import type { Arrival, Fact, Replica } from "@hearth/cluster";
import { factPrefixes, type LeaseFact, type NodeFact, type NodePolicyFact } from "@hearth/machine";
import { FittingNodes } from "./fitting-nodes.ts";
import {
  betterFor,
  type Considered,
  type NodeView,
  type PlacementRequest,
  rankNodes,
  refusalOf,
  tighter,
} from "./placement.ts";

/** A node that has not said anything for so long is not scheduled on, and its machines are doubtful. */
export const nodeFactLimitMs = 15_000;
/** A process that has just begun to listen has heard every node after one of their periods. */
export const firstWordLimitMs = 4_000;
/** So few holders of an image are sorted; more are met soon enough on the way through the nodes. */
const fewHolders = 256;

export interface NodeIndexClocks {
  readonly nowMs: () => number;
  readonly monotonicMs: () => number;
}

interface Entry {
  node: NodeFact;
  /** Monotonic; undefined while it was not heard. */
  heardAtMs: number | undefined;
  /** How far its clock was ahead of this process's when it was heard. */
  skewMs: number;
  /** Where it stands in the order. */
  place: Placed;
}

interface Placed {
  readonly free_memory_mb: number;
  readonly node_id: string;
  readonly entry: Entry;
}

type Counts = ReadonlyMap<string, number>;

export class NodeIndex {
  readonly #clocks: NodeIndexClocks;
  readonly #nodes = new Map<string, Entry>();
  readonly #policies = new Map<string, NodePolicyFact>();
  readonly #leases = new Map<string, LeaseFact["state"]>();
  readonly #everywhere = new FittingNodes<Placed>();
  readonly #regions = new Map<string, FittingNodes<Placed>>();
  readonly #holders = new Map<string, Set<Entry>>();
  readonly #begunAtMs: number;
  readonly #listeners = new Set<() => void>();

  /** @param replica already started */
  constructor(replica: Pick<Replica, "list" | "watch">, clocks: NodeIndexClocks) {
    this.#clocks = clocks;
    this.#begunAtMs = clocks.monotonicMs();
    for (const fact of replica.list(factPrefixes.nodePolicy)) this.takePolicy(fact);
    for (const fact of replica.list(factPrefixes.lease)) this.takeLease(fact);
    for (const fact of replica.list(factPrefixes.node)) this.take(fact, { isLive: false });
    replica.watch(factPrefixes.nodePolicy, (fact) => this.takePolicy(fact));
    replica.watch(factPrefixes.lease, (fact) => this.takeLease(fact));
    replica.watch(factPrefixes.node, (fact, arrival) => this.take(fact, arrival));
  }

  get size(): number {
    return this.#nodes.size;
  }

  node(id: string): NodeFact | undefined {
    return this.#nodes.get(id)?.node;
  }

  policy(id: string): NodePolicyFact | undefined {
    return this.#policies.get(id);
  }

  /** A node that was not heard by now is silent. */
  get isListeningLong(): boolean {
    return this.#clocks.monotonicMs() - this.#begunAtMs > nodeFactLimitMs;
  }

  /** Infinite for a node that was not heard since this process began to follow. */
  ageMs(id: string): number {
    const heardAtMs = this.#nodes.get(id)?.heardAtMs;
    return heardAtMs === undefined ? Number.POSITIVE_INFINITY : this.#clocks.monotonicMs() - heardAtMs;
  }

  /** Positive when the node's clock is ahead; 0 while the node was not heard. */
  clockSkewMs(id: string): number {
    return this.#nodes.get(id)?.skewMs ?? 0;
  }

  takePolicy({ key, value }: Fact): void {
    const id = key.slice(factPrefixes.nodePolicy.length);
    if (value === undefined) this.#policies.delete(id);
    else this.#policies.set(id, value as NodePolicyFact);
    const known = this.#nodes.get(id);
    if (known !== undefined && this.#isRemoved(id)) this.#remove(known);
  }

  takeLease({ key, value }: Fact): void {
    const id = key.slice(factPrefixes.lease.length);
    if (value === undefined) this.#leases.delete(id);
    else this.#leases.set(id, (value as LeaseFact).state);
  }

  take({ key, value }: Fact, { isLive }: Pick<Arrival, "isLive">): void {
    const id = key.slice(factPrefixes.node.length);
    const node = value as NodeFact | undefined;
    const known = this.#nodes.get(id);
    if (node === undefined || node.node_id !== id || this.#isRemoved(id)) {
      if (known !== undefined) this.#remove(known);
      return;
    }
    const heardAtMs = isLive ? this.#clocks.monotonicMs() : known?.heardAtMs;
    const skewMs = isLive ? node.published_at_ms - this.#clocks.nowMs() : (known?.skewMs ?? 0);
    this.#set(id, node, heardAtMs, skewMs);
    if (isLive) for (const listener of [...this.#listeners]) listener();
  }

  /** What a worker just answered about itself is newer than its fact, and counts until the next one. */
  correct(id: string, free: { readonly free_memory_mb?: unknown; readonly free_cpus?: unknown }): void {
    const known = this.#nodes.get(id);
    if (known === undefined || typeof free.free_memory_mb !== "number") return;
    const { free_memory_mb } = free;
    const cpus = typeof free.free_cpus === "number" ? { free_cpus: free.free_cpus } : {};
    this.#set(id, { ...known.node, free_memory_mb, ...cpus }, known.heardAtMs, known.skewMs);
  }

  /**
   * Best first, each worked out only when it is asked for. Facts may arrive between two steps; no node comes twice.
   * @param machinesOfApp by node; a node that has none need not be named
   * @param onRefused is told of each node that was looked at and passed over
   */
  *candidates(
    request: PlacementRequest,
    machinesOfApp: Counts,
    onRefused: (refusal: Considered) => void = () => undefined,
  ): Generator<NodeFact> {
    const done = new Set<string>();
    const take = (entry: Entry): boolean => {
      const { node_id } = entry.node;
      if (done.has(node_id)) return false;
      done.add(node_id);
      const refusal = refusalOf(this.#view(entry, machinesOfApp), request, nodeFactLimitMs);
      if (refusal !== undefined) onRefused(refusal);
      return refusal === undefined;
    };
    const isNew = ({ node }: Entry): boolean => (machinesOfApp.get(node.node_id) ?? 0) === 0;
    for (const entry of this.#holding(request)) if (isNew(entry) && take(entry)) yield entry.node;
    const fitting = this.#fitting(request.region)?.from(request.memoryMb) ?? [];
    for (const { entry } of fitting) if (isNew(entry) && take(entry)) yield entry.node;
    for (const entry of this.#withApp(request, machinesOfApp)) if (take(entry)) yield entry.node;
  }

  /** What speaks against each node by its facts, or that nothing does. Looks at every node. */
  judge(request: PlacementRequest, machinesOfApp: Counts): Considered[] {
    const { candidates, refused } = rankNodes(this.views(machinesOfApp), request, nodeFactLimitMs);
    const reason = "could take it; another fits better";
    return [
      ...refused,
      ...candidates.map(({ node_id }) => ({ node_id, code: "ranked_lower" as const, reason })),
    ];
  }

  /** Nodes of the region that have too little memory, which the order tells without a look at the others. */
  tooSmall({ region, memoryMb }: PlacementRequest): number {
    return this.#fitting(region)?.countBelow(memoryMb) ?? 0;
  }

  /**
   * A process that has just begun to listen knows nodes that it has not heard yet. Waits for the next word of any
   * of them; false when there is nothing to wait for.
   * @param limitMs counted from when it began
   */
  async hearsMore(limitMs: number): Promise<boolean> {
    const leftMs = this.#begunAtMs + limitMs - this.#clocks.monotonicMs();
    const isWaiting = [...this.#nodes.values()].some(({ heardAtMs }) => heardAtMs === undefined);
    if (leftMs <= 0 || !isWaiting) return false;
    return new Promise((resolve) => {
      const settle = (heard: boolean): void => {
        clearTimeout(timer);
        this.#listeners.delete(listener);
        resolve(heard);
      };
      const listener = (): void => settle(true);
      const timer = setTimeout(() => settle(false), leftMs);
      this.#listeners.add(listener);
    });
  }

  /** Every node as the pure ranking wants it. */
  views(machinesOfApp: Counts): NodeView[] {
    return [...this.#nodes.values()].map((entry) => this.#view(entry, machinesOfApp));
  }

  /** Nodes that have the image, in order. */
  *#holding(request: PlacementRequest): Iterable<Entry> {
    const { image, region, memoryMb } = request;
    const holders = image === undefined ? undefined : this.#holders.get(image);
    if (holders === undefined) return;
    if (holders.size <= fewHolders) {
      const fit = [...holders].filter(
        ({ node }) => node.free_memory_mb >= memoryMb && (region === undefined || node.region === region),
      );
      yield* fit.sort((a, b) => tighter(a.place, b.place));
      return;
    }
    for (const { entry } of this.#fitting(region)?.from(memoryMb) ?? []) if (holders.has(entry)) yield entry;
  }

  /** Nodes that have machines of the app, in order. */
  #withApp(request: PlacementRequest, machinesOfApp: Counts): Entry[] {
    if (request.antiAffinity) return [];
    const better = betterFor(request);
    return [...machinesOfApp.keys()]
      .flatMap((id) => this.#nodes.get(id) ?? [])
      .map((entry) => ({ entry, view: this.#view(entry, machinesOfApp) }))
      .sort((a, b) => better(a.view, b.view))
      .map(({ entry }) => entry);
  }

  /** Only a node may delete what it said, and one that was removed from the region does not any more. */
  #isRemoved(id: string): boolean {
    return this.#policies.get(id)?.removed !== undefined;
  }

  #view(entry: Entry, machinesOfApp: Counts): NodeView {
    const { node, heardAtMs } = entry;
    const lease = this.#leases.get(node.node_id);
    return {
      node,
      ageMs: heardAtMs === undefined ? Number.POSITIVE_INFINITY : this.#clocks.monotonicMs() - heardAtMs,
      policy: this.#policies.get(node.node_id),
      ...(lease === undefined ? {} : { lease: { state: lease } }),
      machinesOfApp: machinesOfApp.get(node.node_id) ?? 0,
    };
  }

  #fitting(region: string | undefined): FittingNodes<Placed> | undefined {
    return region === undefined ? this.#everywhere : this.#regions.get(region);
  }

  #set(id: string, node: NodeFact, heardAtMs: number | undefined, skewMs: number): void {
    const known = this.#nodes.get(id);
    if (known === undefined) {
      const entry = { node, heardAtMs, skewMs } as Entry;
      this.#nodes.set(id, entry);
      this.#place(entry);
      for (const image of node.images ?? []) this.#hold(image, entry);
      return;
    }
    const before = known.node;
    const moves = before.free_memory_mb !== node.free_memory_mb || before.region !== node.region;
    if (moves) this.#displace(known);
    Object.assign(known, { node, heardAtMs, skewMs });
    if (moves) this.#place(known);
    if (sameTexts(before.images, node.images)) return;
    for (const image of before.images ?? []) this.#release(image, known);
    for (const image of node.images ?? []) this.#hold(image, known);
  }

  #remove(entry: Entry): void {
    this.#nodes.delete(entry.node.node_id);
    this.#displace(entry);
    for (const image of entry.node.images ?? []) this.#release(image, entry);
  }

  #place(entry: Entry): void {
    const { free_memory_mb, node_id, region } = entry.node;
    entry.place = { free_memory_mb, node_id, entry };
    const there = this.#regions.get(region) ?? new FittingNodes<Placed>();
    this.#regions.set(region, there);
    for (const nodes of [this.#everywhere, there]) nodes.add(entry.place);
  }

  #displace({ place, node }: Entry): void {
    for (const nodes of [this.#everywhere, this.#regions.get(node.region)]) nodes?.remove(place);
  }

  #hold(image: string, entry: Entry): void {
    const holders = this.#holders.get(image) ?? new Set();
    this.#holders.set(image, holders.add(entry));
  }

  #release(image: string, entry: Entry): void {
    const holders = this.#holders.get(image);
    holders?.delete(entry);
    if (holders?.size === 0) this.#holders.delete(image);
  }
}

const sameTexts = (a: readonly string[] | undefined, b: readonly string[] | undefined): boolean =>
  a === b || (a?.length === b?.length && a?.every((text, index) => text === b?.[index]) === true);
