/**
 * Takes a decision about a machine's place to its end, whoever made it: looks at the placement, does the next safe
 * thing, and leaves the rest to the next look. Every request may be repeated, and any API process may go on here.
 *
 * moving -> released -> moved. The new node is asked only when the old one has let go for certain: it said so
 * (`yield`), or its lease was taken away and the machine is one that runs with a lease only. A new node that was
 * asked is given up only when it has said no, or has lost its own lease.
 *
 * What is read before a decision is read in one turn of the event loop, from a copy that is a prefix of the stream.
 * So when the decision is accepted, nothing that contradicts it was decided before it.
 */
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { MachineFact, MachineState, PlacementFact } from "@hearth/machine";
import { untilMachine } from "../machines/machine-access.ts";
import type { Revised } from "../state/cluster-view.ts";
import { advancePlacement, decidePlacement, type RegionDeps } from "../state/region-writes.ts";
import { findTarget } from "./move-target.ts";

type Placement = Revised<PlacementFact>;

export const needsLease = ({ record }: MachineFact): boolean => record.config.restart_elsewhere === true;
export const isUnfinished = ({ state }: PlacementFact): boolean => state === "moving" || state === "released";

const atRest: ReadonlySet<MachineState> = new Set(["created", "stopped", "suspended", "failed"]);
/** It may have been done all the same. */
const inDoubt: ReadonlySet<HearthErrorCode> = new Set(["unavailable", "deadline_exceeded", "cancelled"]);
const yieldLimitMs = 5_000;
const shownLimitMs = 2_000;

export async function advanceMove(deps: RegionDeps, placement: Placement): Promise<void> {
  if (placement.value.state === "moving") await letGo(deps, placement);
  else if (placement.value.state === "released") await take(deps, placement);
}

async function letGo(deps: RegionDeps, placement: Placement): Promise<void> {
  const { view, worker } = deps;
  const { machine_id, from_node_id, term } = placement.value;
  const source = view.machineOn(from_node_id, machine_id);
  if (view.region.lease(from_node_id)?.value.state === "fenced") {
    if (source !== undefined && needsLease(source))
      await advancePlacement(deps, placement, {
        ...{ state: "released", reason: "host_lost" },
        launch: source.desired === "started",
      });
    return;
  }
  if (source === undefined) return await giveUp(deps, placement, "The machine is gone.");
  if (view.region.policy(from_node_id)?.value.draining !== true)
    return await giveUp(deps, placement, undefined);
  if (!isFirst(deps, placement)) return;
  const target = { machine_id, placement_term: term };
  const answer = await worker.change(from_node_id, "yield", target, yieldLimitMs).catch((thrown) => {
    const error = HearthError.from(thrown);
    if (inDoubt.has(error.code)) throw error;
    return error;
  });
  if (answer instanceof HearthError) return await giveUp(deps, placement, answer.message);
  if (!atRest.has(answer.record.state)) return;
  const seen = view.machineOn(from_node_id, machine_id);
  if (seen === undefined || seen.revision < answer.revision) return;
  await advancePlacement(deps, placement, { state: "released", launch: seen.desired === "started" });
}

/**
 * Of the machines of one node, or of one app, one at a time is taken down. Two processes may have begun one each;
 * all copies of the state agree which came first.
 */
function isFirst({ view }: RegionDeps, { value, revision }: Placement): boolean {
  return !view.region
    .placements()
    .some(
      (other) =>
        other.value.machine_id !== value.machine_id &&
        isUnfinished(other.value) &&
        (other.value.from_node_id === value.from_node_id || other.value.app === value.app) &&
        (other.value.state === "released" || other.revision < revision),
    );
}

async function take(deps: RegionDeps, placement: Placement): Promise<void> {
  const { view, worker, logger } = deps;
  const { machine_id, node_id, from_node_id, instance_id, launch, term } = placement.value;
  const source = view.machineOn(node_id, machine_id) ?? view.machineOn(from_node_id, machine_id);
  const app = source && view.findApp(source.app)?.value;
  if (source === undefined || app === undefined) {
    logger.error({ machine_id, node_id, from_node_id }, "nothing says any more what this machine is");
    return;
  }
  const lease = view.region.lease(node_id)?.value.state;
  if (lease === "removed" || (lease === "fenced" && needsLease(source)))
    return await retarget(deps, placement, source);
  if (lease === "fenced" || lease === "returning") return; // it may have the machine already
  const { record } = source;
  const request = {
    ...{ machine_id, instance_id, launch },
    ...{ app: source.app, name: record.name, network: app.network, config: record.config },
    region: view.node(node_id)?.region ?? record.region,
    ...(app.egress === undefined ? {} : { app_egress: app.egress }),
    moved: {
      placement_term: term,
      state: record.state === "created" ? ("created" as const) : ("stopped" as const),
      cordoned: record.cordoned,
      created_ms: Date.parse(record.created_at),
    },
  };
  try {
    const answer = await worker.change(node_id, "commit", request);
    const isThere = () =>
      view.machineOn(node_id, machine_id)?.record.instance_id === answer.record.instance_id;
    if (await untilMachine(view, machine_id, isThere, shownLimitMs))
      await advancePlacement(deps, placement, { state: "moved" });
  } catch (thrown) {
    const error = HearthError.from(thrown);
    if (inDoubt.has(error.code) || error.code === "conflict" || error.code === "internal") throw error;
    logger.warn({ err: error, machine_id, node_id }, "the node that was to take a machine refuses it");
    await retarget(deps, placement, source);
  }
}

async function retarget(deps: RegionDeps, placement: Placement, source: MachineFact): Promise<void> {
  const { view } = deps;
  const { machine_id, node_id, from_node_id, launch, app, reason } = placement.value;
  const before = view.region.lease(node_id)?.value.state;
  const target = await findTarget(deps, source, new Set([node_id, from_node_id]));
  if (view.region.lease(node_id)?.value.state !== before) return;
  if ("why" in target) return await giveUp(deps, placement, target.why);
  const next = { machine_id, app, from_node_id, reason, launch, state: "released" } as const;
  await decidePlacement(deps, { ...next, node_id: target.nodeId }, placement);
}

/** The machine stays where it is, and `why` says what hindered its move. */
async function giveUp(deps: RegionDeps, placement: Placement, why: string | undefined): Promise<void> {
  const { machine_id, node_id, from_node_id, launch, app, reason } = placement.value;
  const back = { machine_id, app, launch, reason, state: "stays" } as const;
  await decidePlacement(deps, { ...back, node_id: from_node_id, from_node_id: node_id, why }, placement);
}
