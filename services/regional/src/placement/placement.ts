/**
 * Which nodes could take a machine, best first. Pure: facts in, a ranking and the reasons of the others out.
 * The ranking is a guess from what nodes last said; the worker that is asked decides on its own truth. This is the
 * whole rule; the node index gives the same answer without looking at every node, and a test holds it to that.
 */
import { HearthError } from "@hearth/errors";
import {
  type ConsideredNode,
  type LeaseFact,
  maxConsidered,
  maxReason,
  type NodeFact,
  type NodeLabels,
  type NodePolicyFact,
  type PlacementCode,
  type PlacementReport,
} from "@hearth/machine";

export interface PlacementRequest {
  readonly region: string | undefined;
  readonly memoryMb: number;
  readonly cpus: number;
  readonly labels?: NodeLabels | undefined;
  /** Never beside another machine of the app. */
  readonly antiAffinity?: boolean | undefined;
  /** As the configuration names it. */
  readonly image?: string | undefined;
}

export interface NodeView {
  readonly node: NodeFact;
  /** Since this process heard it; infinite when it never did. */
  readonly ageMs: number;
  readonly policy?: Pick<NodePolicyFact, "cordoned" | "draining"> | undefined;
  readonly lease?: Pick<LeaseFact, "state"> | undefined;
  /** Machines of the same app that live there; an app is spread over nodes. */
  readonly machinesOfApp: number;
}

/** A node that was looked at and not taken. */
export interface Considered {
  readonly node_id: string;
  readonly code: PlacementCode;
  readonly reason: string;
}

export interface Ranking {
  readonly candidates: readonly NodeFact[];
  readonly refused: readonly Considered[];
}

export function rankNodes(
  nodes: readonly NodeView[],
  request: PlacementRequest,
  ageLimitMs: number,
): Ranking {
  const candidates: NodeView[] = [];
  const refused: Considered[] = [];
  for (const view of nodes) {
    const refusal = refusalOf(view, request, ageLimitMs);
    if (refusal === undefined) candidates.push(view);
    else refused.push(refusal);
  }
  return { candidates: candidates.sort(betterFor(request)).map(({ node }) => node), refused };
}

/** The first reason that speaks against the node. */
export function refusalOf(
  view: NodeView,
  request: PlacementRequest,
  ageLimitMs: number,
): Considered | undefined {
  const found = reasonAgainst(view, request, ageLimitMs);
  return found && { node_id: view.node.node_id, code: found[0], reason: found[1] };
}

function reasonAgainst(
  { node, ageMs, policy, lease, machinesOfApp }: NodeView,
  request: PlacementRequest,
  ageLimitMs: number,
): readonly [PlacementCode, string] | undefined {
  if (request.region !== undefined && node.region !== request.region)
    return ["region", `is in region ${node.region}`];
  if (ageMs > ageLimitMs) return ["not_heard", notHeard(ageMs)];
  if (lease !== undefined && lease.state !== "held") return ["lease", `has lost its lease (${lease.state})`];
  const [problem] = node.problems ?? [];
  if (problem !== undefined) return ["problem", `takes no work: ${problem}`];
  if (policy?.draining) return ["draining", "is being drained"];
  if (policy?.cordoned) return ["cordoned", "is cordoned"];
  const lacking = lackingLabel(node, request.labels);
  if (lacking !== undefined) return ["labels", `has not the label ${lacking}`];
  if (node.free_memory_mb < request.memoryMb)
    return [
      "memory",
      `has ${node.free_memory_mb} MB free of ${node.total_memory_mb}; ${request.memoryMb} MB are asked for`,
    ];
  if (node.free_cpus !== undefined && node.free_cpus < request.cpus)
    return ["cpus", `has ${node.free_cpus} virtual CPUs free; ${request.cpus} are asked for`];
  if (request.antiAffinity && machinesOfApp > 0)
    return ["anti_affinity", `has ${machinesOfApp} of the app's machines already`];
  return undefined;
}

const notHeard = (ageMs: number): string =>
  Number.isFinite(ageMs)
    ? `was last heard ${Math.round(ageMs / 1000)} s ago`
    : "was not heard since this API process began";

function lackingLabel({ labels }: NodeFact, wanted: NodeLabels | undefined): string | undefined {
  for (const [name, value] of Object.entries(wanted ?? {}))
    if (labels?.[name] !== value) return `${name}=${value}`;
  return undefined;
}

export const hasImage = ({ images }: NodeFact, image: string | undefined): boolean =>
  image !== undefined && images?.includes(image) === true;

/** Spread the app, then where the image is, then best fit: what is left stays in one piece for a large machine. */
export const betterFor =
  ({ image }: PlacementRequest) =>
  (a: NodeView, b: NodeView): number =>
    a.machinesOfApp - b.machinesOfApp ||
    Number(hasImage(b.node, image)) - Number(hasImage(a.node, image)) ||
    tighter(a.node, b.node);

export const tighter = (
  a: Pick<NodeFact, "free_memory_mb" | "node_id">,
  b: Pick<NodeFact, "free_memory_mb" | "node_id">,
): number =>
  a.free_memory_mb - b.free_memory_mb || (a.node_id < b.node_id ? -1 : a.node_id > b.node_id ? 1 : 0);

/**
 * Those that were asked come first in `considered`.
 * @param others what was judged by facts; of very many, only how many have too little memory
 */
export function placementReport(
  nodes: number,
  asked: readonly Considered[],
  others: readonly Considered[] | number,
  chosen?: string,
): PlacementReport {
  const named = typeof others === "number" ? [] : others;
  const passed_over: Record<string, number> = {};
  for (const { code } of [...asked, ...named]) passed_over[code] = (passed_over[code] ?? 0) + 1;
  if (typeof others === "number" && others > 0) passed_over.memory = (passed_over.memory ?? 0) + others;
  const winner: ConsideredNode[] =
    chosen === undefined ? [] : [{ node_id: chosen, code: "chosen", reason: "took the machine" }];
  const considered = [...asked, ...winner, ...named]
    .slice(0, maxConsidered)
    .map((each) => ({ ...each, reason: each.reason.slice(0, maxReason) }));
  return { ...(chosen === undefined ? {} : { node_id: chosen }), nodes, considered, passed_over };
}

const silences: ReadonlySet<string> = new Set<PlacementCode>(["not_heard", "no_answer"]);

export function noCapacity(request: PlacementRequest, report: PlacementReport): HearthError {
  const where = request.region === undefined ? "" : ` in region ${request.region}`;
  const named = report.considered.map(({ node_id, reason }) => `${node_id} ${reason}`);
  const more = Object.values(report.passed_over).reduce((sum, count) => sum + count, 0) - named.length;
  const why =
    named.length === 0 ? "no node is known" : `${named.join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
  // Silence says nothing of room: the nodes, the bus or this process may have been away for a moment.
  if (named.length > 0 && Object.keys(report.passed_over).every((code) => silences.has(code)))
    return new HearthError("unavailable", {
      message: `No node${where} can be heard now: ${why}. Try again in a moment.`,
      details: { ...report },
    });
  return new HearthError("insufficient_capacity", {
    message: `No node${where} can take a machine of ${request.cpus} CPUs and ${request.memoryMb} MB: ${why}. Stop a machine or ask for less.`,
    details: { ...report },
  });
}
