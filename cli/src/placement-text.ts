/** How a machine's node was chosen, in sentences. */
import type { PlacementReport } from "@hearth/machine";

const named = 5;
/** What says nothing about a node that others would want to know. */
const isPlain = (code: string): boolean => code === "chosen" || code === "ranked_lower";

/** Empty when no account of it was kept. */
export function placementText(report: PlacementReport | undefined): string[] {
  if (report?.node_id === undefined) return [];
  const { node_id, nodes } = report;
  const lines = [`It was put on node ${node_id}, of ${nodes} ${nodes === 1 ? "node" : "nodes"}.`];
  const refused = refusals(report);
  return refused === "" ? lines : [...lines, `Passed over: ${refused}.`];
}

/** Nodes that did not take the machine, though nothing better had been found by then or something forbade it. */
export function refusals({ considered, passed_over }: PlacementReport): string {
  const reasons = considered.filter(({ code }) => !isPlain(code));
  const all = Object.entries(passed_over).filter(([code]) => !isPlain(code));
  const count = all.reduce((sum, [, each]) => sum + each, 0);
  const shown = reasons.slice(0, named).map(({ node_id, reason }) => `${node_id} ${reason}`);
  const more = count - shown.length;
  return [...shown, ...(more > 0 ? [`${more} more`] : [])].join("; ");
}
