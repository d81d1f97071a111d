/**
 * Decisions one after another, as the API takes them, each followed by the facts that it leads to: the node has less
 * room and the app one machine more. Beside it the plain way: every host is scored for every machine.
 */
import { factKeys, factPrefixes, type NodeFact } from "@hearth/machine";
import { type ClusterView, nodeFactLimitMs, type PlacementRequest, rankNodes } from "@hearth/regional";
import { appsOf, factOn, imageOf, pick, type RegionSize, seeded } from "./region.ts";

export interface Decisions {
  readonly placed: number;
  readonly refused: number;
  readonly perSecond: number;
  /** Milliseconds of each decision, without the facts that follow from it. */
  readonly times: readonly number[];
}

interface Wanted {
  readonly app: string;
  readonly request: PlacementRequest;
}

function* wishes(size: RegionSize, seed: number): Generator<Wanted> {
  const random = seeded(seed);
  for (;;)
    yield {
      app: `app-${Math.floor(random() * appsOf(size))}`,
      request: {
        region: random() < 0.5 ? pick(["ams", "fra", "iad", "sin"], random) : undefined,
        memoryMb: pick([256, 512, 1024, 4096], random),
        cpus: pick([1, 2, 4], random),
        image: imageOf(Math.floor(random() * 300)),
        antiAffinity: random() < 0.1,
        ...(random() < 0.1 ? { labels: { zone: pick(["a", "b", "c"], random), disk: "nvme" } } : {}),
      },
    };
}

/** Everybody has just been heard; the clock of the view stands still. */
export function hearAll(view: ClusterView): void {
  for (const node of view.nodes())
    view.nodeIndex.take({ key: factKeys.node(node.node_id), value: node, revision: 0 }, { isLive: true });
}

type Decide = (view: ClusterView, wanted: Wanted) => NodeFact | undefined;

/** The code of the API. */
export const byIndex: Decide = ({ nodeIndex, machineIndex }, { app, request }) =>
  nodeIndex.candidates(request, machineIndex.perNode(app)).next().value as NodeFact | undefined;

/** The whole rule for every host. */
export const byScan: Decide = ({ nodeIndex, machineIndex }, { app, request }) =>
  rankNodes(nodeIndex.views(machineIndex.perNode(app)), request, nodeFactLimitMs).candidates[0];

export function decideMany(view: ClusterView, size: RegionSize, decide: Decide, count: number): Decisions {
  const times: number[] = [];
  let placed = 0;
  let machine = size.machines + 1_000_000 * (decide === byScan ? 1 : 0);
  const asked = wishes(size, 7);
  const begun = performance.now();
  for (let turn = 0; turn < count; turn += 1) {
    const wanted = asked.next().value as Wanted;
    const at = performance.now();
    const node = decide(view, wanted);
    times.push(performance.now() - at);
    if (node === undefined) continue;
    placed += 1;
    machine += 1;
    apply(view, node, wanted, machine);
  }
  const perSecond = (count / (performance.now() - begun)) * 1000;
  return { placed, refused: count - placed, perSecond, times };
}

/** How often the two ways choose different nodes for the same wish. */
export function disagreements(view: ClusterView, size: RegionSize, count: number): number {
  const asked = wishes(size, 11);
  let different = 0;
  for (let turn = 0; turn < count; turn += 1) {
    const wanted = asked.next().value as Wanted;
    if (byIndex(view, wanted)?.node_id !== byScan(view, wanted)?.node_id) different += 1;
  }
  return different;
}

/** Through the doors by which a replica's changes come. */
function apply(
  { nodeIndex, machineIndex }: ClusterView,
  node: NodeFact,
  wanted: Wanted,
  machine: number,
): void {
  const { memoryMb, cpus, image = "" } = wanted.request;
  const less = {
    ...node,
    free_memory_mb: node.free_memory_mb - memoryMb,
    free_cpus: (node.free_cpus ?? 0) - cpus,
    machines: node.machines + 1,
  };
  nodeIndex.take({ key: `${factPrefixes.node}${node.node_id}`, value: less, revision: 0 }, { isLive: true });
  const fact = factOn(node.node_id, machine, wanted.app, memoryMb, image);
  machineIndex.take({ key: factKeys.machine(node.node_id, fact.record.id), value: fact, revision: 0 });
}
