/**
 * Which nodes could take a machine, best first. Pure: facts in, a ranking and the reasons of the others out.
 * The ranking is a guess from what nodes last said; the worker that is asked decides on its own truth.
 */
import { HearthError } from "@hearth/errors";
import type { LeaseFact, NodeFact, NodePolicyFact } from "@hearth/machine";

export interface PlacementRequest {
  readonly region: string | undefined;
  readonly memoryMb: number;
  readonly cpus: number;
}

export interface NodeView {
  readonly node: NodeFact;
  readonly ageMs: number;
  readonly policy?: NodePolicyFact | undefined;
  readonly lease?: LeaseFact | undefined;
  /** Machines of the same app that live there; an app is spread over nodes. */
  readonly machinesOfApp: number;
}

/** A node that was looked at and not taken. */
export interface Considered {
  readonly node_id: string;
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
    const reason = refusal(view, request, ageLimitMs);
    if (reason === undefined) candidates.push(view);
    else refused.push({ node_id: view.node.node_id, reason });
  }
  return { candidates: candidates.sort(better).map(({ node }) => node), refused };
}

function refusal(
  { node, ageMs, policy, lease }: NodeView,
  request: PlacementRequest,
  ageLimitMs: number,
): string | undefined {
  if (request.region !== undefined && node.region !== request.region) return `is in region ${node.region}`;
  if (ageMs > ageLimitMs) return `was last heard ${Math.round(ageMs / 1000)} s ago`;
  if (policy?.draining) return "is being drained";
  if (policy?.cordoned) return "is cordoned";
  if (lease !== undefined && lease.state !== "held") return `has lost its lease (${lease.state})`;
  const [problem] = node.problems ?? [];
  if (problem !== undefined) return `takes no work: ${problem}`;
  if (node.free_memory_mb < request.memoryMb)
    return `has ${node.free_memory_mb} MB free of ${node.total_memory_mb}; ${request.memoryMb} MB are asked for`;
  return undefined;
}

/** Spread the app, then best fit: what is left over stays in one piece for a large machine. */
function better(a: NodeView, b: NodeView): number {
  return (
    a.machinesOfApp - b.machinesOfApp ||
    a.node.free_memory_mb - b.node.free_memory_mb ||
    (a.node.node_id < b.node.node_id ? -1 : 1)
  );
}

export function noCapacity(request: PlacementRequest, considered: readonly Considered[]): HearthError {
  const where = request.region === undefined ? "" : ` in region ${request.region}`;
  const why =
    considered.length === 0
      ? "no node is known"
      : considered.map(({ node_id, reason }) => `${node_id} ${reason}`).join("; ");
  return new HearthError("insufficient_capacity", {
    message: `No node${where} can take a machine of ${request.cpus} CPUs and ${request.memoryMb} MB: ${why}. Stop a machine or ask for less.`,
    details: { considered },
  });
}
