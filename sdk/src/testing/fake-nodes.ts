/** The nodes of the fake API: wishes are kept, and a node that is drained loses a machine each time somebody looks. */
import { HearthError } from "@hearth/errors";
import type { MachineMove, NodeStatus, NodeSummary } from "../types.ts";
import type { FakeState } from "./fake-api.ts";

export interface FakeNode {
  cordoned: boolean;
  draining: boolean;
  problems: readonly string[];
  remaining: readonly MachineMove[];
  moved: readonly MachineMove[];
}

export const newFakeNode = (remaining: readonly MachineMove[] = []): FakeNode => ({
  ...{ cordoned: false, draining: false, problems: [], moved: [] },
  remaining,
});

export const listFakeNodes = ({ nodes }: FakeState): NodeSummary[] =>
  [...nodes].map(([nodeId, node]) => summary(nodeId, node));

export function lookAtFakeNode(state: FakeState, nodeId: string): NodeStatus {
  const node = nodeOf(state, nodeId);
  const next = node.draining ? node.remaining.find(({ why }) => why === null) : undefined;
  if (next !== undefined) {
    node.remaining = node.remaining.filter((one) => one !== next);
    node.moved = [...node.moved, { ...next, to: "n2" }];
  }
  return { ...summary(nodeId, node), remaining: node.remaining, moved: node.moved };
}

export function changeFakeNode(state: FakeState, nodeId: string, verb: string): NodeStatus {
  const node = nodeOf(state, nodeId);
  node.cordoned = verb === "cordon" || verb === "drain";
  node.draining = verb === "drain";
  return { ...summary(nodeId, node), remaining: node.remaining, moved: node.moved };
}

export function removeFakeNode(state: FakeState, nodeId: string, force: boolean): object {
  const ids = nodeOf(state, nodeId).remaining.map(({ machine_id }) => machine_id);
  if (ids.length > 0 && !force)
    throw new HearthError("conflict", {
      message: `Node ${nodeId} has machines: ${ids.join(", ")}. Drain it first.`,
    });
  state.nodes.delete(nodeId);
  return { ok: true, forgotten: ids };
}

function nodeOf({ nodes }: FakeState, nodeId: string): FakeNode {
  const node = nodes.get(nodeId);
  if (node === undefined) throw new HearthError("not_found", { message: `There is no node ${nodeId}.` });
  return node;
}

function summary(nodeId: string, { cordoned, draining, problems, remaining }: FakeNode): NodeSummary {
  const drained = remaining.length === 0 ? "drained" : "draining";
  return {
    ...{ node_id: nodeId, region: "local", version: "0.1.0", accelerator: "tcg", total_cpus: 2 },
    ...{ total_memory_mb: 2048, free_memory_mb: 1024, machines: remaining.length },
    ...{ warnings: ["Guests run without KVM."], problems, published_at_ms: Date.now(), age_ms: 1_400 },
    ...{ state: draining ? drained : cordoned ? "cordoned" : "ready", cordoned, draining, lease: null },
  };
}
