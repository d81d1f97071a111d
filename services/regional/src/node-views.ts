/** The nodes as placement looks at them, from the replica. */
import type { ClusterView } from "./cluster-view.ts";
import type { NodeView } from "./placement.ts";

export function nodeViews(view: ClusterView, app: string): NodeView[] {
  const perNode = new Map<string, number>();
  for (const { node_id, record } of view.machines(app))
    if (record.state !== "destroyed") perNode.set(node_id, (perNode.get(node_id) ?? 0) + 1);
  return view.nodes().map((node) => ({
    node,
    ageMs: view.nodeAgeMs(node),
    machinesOfApp: perNode.get(node.node_id) ?? 0,
    policy: view.region.policy(node.node_id)?.value,
    lease: view.region.lease(node.node_id)?.value,
  }));
}
