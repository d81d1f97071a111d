/** What a drain, or the loss of a host, has to move next, and what it leaves and why. Pure but for the decision. */
import { HearthError } from "@hearth/errors";
import type { MachineFact } from "@hearth/machine";
import type { ClusterView } from "../state/cluster-view.ts";
import { decidePlacement, type RegionDeps } from "../state/region-writes.ts";
import { isUnfinished, needsLease } from "./machine-move.ts";
import { findTarget } from "./move-target.ts";

const isGone = ({ record, desired }: MachineFact): boolean =>
  record.state === "destroyed" || record.state === "destroying" || desired === "destroyed";

/** The machines that are the node's own: not those that were moved and are not forgotten yet. */
export function machinesOf(view: ClusterView, nodeId: string): MachineFact[] {
  return view.machinesOn(nodeId).filter((fact) => {
    const placed = view.region.placement(fact.record.id)?.value;
    return !isGone(fact) && (placed === undefined || placed.node_id === nodeId || isUnfinished(placed));
  });
}

/** Why a machine cannot leave its node; undefined when it can. */
export function pinned({ record, desired }: MachineFact): string | undefined {
  const { config, state } = record;
  const kept = config.guest.persist_rootfs ?? "never";
  if ((config.mounts ?? []).length > 0) return "It has a volume, which stays on its host.";
  if (kept !== "never" && kept !== 0) return "Its disk is kept (guest.persist_rootfs) and stays on its host.";
  if (config.auto_destroy === true && (desired === "started" || state === "stopping"))
    return "It is a job that destroys itself when it is done (auto_destroy); wait for it, or stop it.";
  return undefined;
}

/** Why the machine may not be down now; undefined when it may. */
export function neededNow(view: ClusterView, { app, record, desired }: MachineFact): string | undefined {
  if (desired !== "started") return undefined;
  const machines = view.machines(app).filter((one) => one.desired === "started" && !isGone(one));
  const minimum = Math.max(
    ...machines.map(({ record: { config } }) =>
      Math.max(0, ...(config.services ?? []).map(({ min_machines_running = 0 }) => min_machines_running)),
    ),
    machines.length > 1 ? 1 : 0,
  );
  const others = machines.filter((one) => one.record.id !== record.id && serves(view, one)).length;
  if (others >= minimum) return undefined;
  return `The app ${app} would have ${others} running of at least ${minimum}; start more of it, or lower min_machines_running.`;
}

function serves(view: ClusterView, fact: MachineFact): boolean {
  const { state, checks } = fact.record;
  const wellChecked = checks.every(({ status }) => status === "passing");
  return state === "started" && wellChecked && view.isNodeFresh(fact);
}

/** Whether a machine that this node gave away is still on its way up, so that the next one waits for it. */
export function isComingUp(view: ClusterView, nodeId: string): boolean {
  return view.region.placements().some(({ value }) => {
    if (value.from_node_id !== nodeId || value.state !== "moved" || !value.launch) return false;
    const fact = view.machineOn(value.node_id, value.machine_id);
    if (fact === undefined || !view.isNodeFresh(fact)) return false;
    return fact.record.state === "starting" || (fact.record.state === "started" && !serves(view, fact));
  });
}

/** Begins the move of one machine. Answers why not. */
export async function beginMove(
  deps: RegionDeps,
  fact: MachineFact,
  reason: "drain" | "host_lost",
): Promise<string | undefined> {
  const { view } = deps;
  const { node_id, app, record, desired } = fact;
  const known = view.region.placement(record.id);
  if (known !== undefined && isUnfinished(known.value)) return undefined;
  const refuse = async (why: string): Promise<string> => {
    if (known?.value.why !== why || known.value.state !== "stays")
      await decidePlacement(deps, { ...place, node_id, from_node_id: node_id, state: "stays", why }, known);
    return why;
  };
  const place = { machine_id: record.id, app, reason, launch: desired === "started" };
  const hindered = reason === "drain" ? (pinned(fact) ?? neededNow(view, fact)) : undefined;
  if (hindered !== undefined) return await refuse(hindered);
  const target = await findTarget(deps, fact, new Set([node_id]));
  if ("why" in target) return await refuse(target.why);
  // Nothing was decided of it while room was looked for, and the node is still what it was.
  if (view.region.placement(record.id)?.revision !== known?.revision) return undefined;
  const lease = view.region.lease(node_id)?.value.state;
  const state = reason === "drain" ? "moving" : "released";
  if (reason === "host_lost" && !(lease === "fenced" && needsLease(fact))) return undefined;
  if (reason === "drain" && view.region.policy(node_id)?.value.draining !== true) return undefined;
  await decidePlacement(deps, { ...place, node_id: target.nodeId, from_node_id: node_id, state }, known);
  return undefined;
}

/** @throws HearthError `not_found` */
export function knownNode(view: ClusterView, nodeId: string): void {
  if (view.node(nodeId) !== undefined || (view.region.lease(nodeId) && !view.region.isRemoved(nodeId)))
    return;
  throw new HearthError("not_found", {
    message: `There is no node ${nodeId}; \`GET /v1/nodes\` lists them.`,
    details: { node_id: nodeId },
  });
}
