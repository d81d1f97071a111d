/** Nodes as clients read them: what they say of themselves, how the region stands to them, and what moves. */
import type { MachineFact, NodeFact } from "@hearth/machine";
import Type from "typebox";
import type { ClusterView } from "../state/cluster-view.ts";
import { isUnfinished } from "./machine-move.ts";
import { machinesOf, pinned } from "./node-drain.ts";

export const nodeStates = [
  "ready",
  "problems",
  "cordoned",
  "draining",
  "drained",
  "returning",
  "unreachable",
] as const;
export type NodeState = (typeof nodeStates)[number];

export const NodeAnswer = Type.Object({
  node_id: Type.String(),
  region: Type.String(),
  version: Type.String(),
  accelerator: Type.Enum(["kvm", "tcg"]),
  total_cpus: Type.Integer(),
  total_memory_mb: Type.Integer(),
  free_memory_mb: Type.Integer({ description: "Cold: what it would still admit." }),
  free_cpus: Type.Union([Type.Integer(), Type.Null()], {
    description: "Virtual CPUs that it would still admit; null when it does not say.",
  }),
  reserved_memory_mb: Type.Integer({ description: "Held now for machines about to be made; not in `free`." }),
  reserved_cpus: Type.Integer(),
  hot_slots: Type.Integer({ description: "Machines that wait booted. 0: this version keeps none." }),
  cpu_overcommit: Type.Union([Type.Integer(), Type.Null()], {
    description: "Virtual CPUs for each of the node's. Memory is never promised twice.",
  }),
  labels: Type.Record(Type.String(), Type.String()),
  images: Type.Array(Type.String(), { description: "Images of its machines; the newest ones." }),
  machines: Type.Integer(),
  warnings: Type.Array(Type.String()),
  problems: Type.Array(Type.String(), {
    description: "What does not work now; then it takes no new machine.",
  }),
  pressure: Type.Optional(
    Type.Object({
      cpu_waiting: Type.Optional(Type.Number({ description: "Percent of the last minute." })),
      memory_used: Type.Number({ description: "Percent." }),
      disk_used: Type.Number({ description: "Percent." }),
      disk_free_mb: Type.Integer(),
    }),
  ),
  published_at_ms: Type.Integer({ description: "By the node's own clock; nothing is decided by it." }),
  age_ms: Type.Union([Type.Integer(), Type.Null()], {
    description: "Since this process last heard it; null when it has not yet.",
  }),
  clock_skew_ms: Type.Integer({ description: "How far its clock is ahead of that of this process." }),
  state: Type.Enum([...nodeStates]),
  cordoned: Type.Boolean(),
  draining: Type.Boolean(),
  lease: Type.Union([
    Type.Object({
      state: Type.Enum(["held", "fenced", "returning", "removed"]),
      term: Type.Integer({ description: "How often the region gave the node up." }),
    }),
    Type.Null(),
  ]),
  schedulable: Type.Boolean({ description: "Whether new machines may go there." }),
});

const MoveAnswer = Type.Object({
  machine_id: Type.String(),
  app: Type.String(),
  name: Type.String(),
  state: Type.String(),
  to: Type.Union([Type.String(), Type.Null()], { description: "The node that it moves, or has moved, to." }),
  why: Type.Union([Type.String(), Type.Null()], { description: "What hinders its move." }),
});

export const NodeDetail = Type.Object({
  ...NodeAnswer.properties,
  remaining: Type.Array(MoveAnswer, { description: "The machines that live there." }),
  moved: Type.Array(MoveAnswer, { description: "Machines that left it for another node." }),
});

export function describeNode(view: ClusterView, { restated: _restated, ...node }: NodeFact) {
  const { region } = view;
  const policy = region.policy(node.node_id)?.value;
  const lease = region.lease(node.node_id)?.value;
  const state = nodeState(view, node);
  const clock = view.clockWarning(node);
  const ageMs = view.nodeAgeMs(node);
  return {
    ...{ free_cpus: null, reserved_memory_mb: 0, reserved_cpus: 0, hot_slots: 0, cpu_overcommit: null },
    ...{ ...node, labels: { ...node.labels }, images: [...(node.images ?? [])] },
    warnings: [...node.warnings, ...(clock === undefined ? [] : [clock])],
    problems: [...(node.problems ?? [])],
    ...(node.pressure === undefined ? {} : { pressure: { ...node.pressure } }),
    age_ms: Number.isFinite(ageMs) ? Math.round(ageMs) : null,
    clock_skew_ms: Math.round(view.nodeIndex.clockSkewMs(node.node_id)),
    state,
    cordoned: policy?.cordoned ?? false,
    draining: policy?.draining ?? false,
    lease: lease === undefined ? null : { state: lease.state, term: lease.term },
    schedulable: state === "ready",
  };
}

function nodeState(view: ClusterView, node: NodeFact): NodeState {
  const policy = view.region.policy(node.node_id)?.value;
  const lease = view.region.lease(node.node_id)?.value.state;
  if (!view.isNodeFresh(node)) return "unreachable";
  if (lease === "returning") return "returning";
  if (policy?.draining) return machinesOf(view, node.node_id).length === 0 ? "drained" : "draining";
  if (policy?.cordoned) return "cordoned";
  return (node.problems ?? []).length > 0 ? "problems" : "ready";
}

export function describeMoves(view: ClusterView, nodeId: string) {
  const { region } = view;
  const remaining = machinesOf(view, nodeId).map((fact) => {
    const placed = region.placement(fact.record.id)?.value;
    const moving = placed !== undefined && isUnfinished(placed);
    const why = region.policy(nodeId)?.value.draining === true ? pinned(fact) : undefined;
    return { ...about(fact), to: moving ? placed.node_id : null, why: placed?.why ?? why ?? null };
  });
  const moved = region
    .placements()
    .filter(({ value }) => value.from_node_id === nodeId && value.state === "moved")
    .flatMap(({ value }) => {
      const fact = view.machineOn(value.node_id, value.machine_id);
      return fact === undefined ? [] : [{ ...about(fact), to: value.node_id, why: null }];
    });
  return { remaining, moved };
}

const about = ({ app, record }: MachineFact) => ({
  machine_id: record.id as string,
  app,
  name: record.name,
  state: record.state as string,
});
