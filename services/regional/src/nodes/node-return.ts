/**
 * A node that was given up is back. It has ended the machines that need the lease and asks about each of them. What
 * was not begun to be moved is decided to stay, so that no process which still believes the node lost can move it;
 * what was begun is finished first. Then the node gets the lease back, with the machines that it has to forget.
 */
import type { LeaseFact } from "@hearth/machine";
import type { Revised } from "../state/cluster-view.ts";
import { decideLease, decidePlacement, type RegionDeps } from "../state/region-writes.ts";

type Moved = { readonly machine_id: string; readonly term: number };

export async function answerReturn(deps: RegionDeps, lease: Revised<LeaseFact>): Promise<void> {
  const { region } = deps.view;
  const { node_id, asks = [], ttl_ms, term } = lease.value;
  const moved: Moved[] = [];
  for (const machine_id of asks) {
    const known = region.placement(machine_id);
    const placed = known?.value;
    const owner = placed?.state === "moving" ? placed.from_node_id : placed?.node_id;
    if (placed !== undefined && owner !== node_id) {
      // What it is, only this node says until the new one has it: the move goes on, and then this is asked again.
      if (placed.state === "released" && placed.from_node_id === node_id) return;
      moved.push({ machine_id, term: placed.term });
      continue;
    }
    const app = placed?.app ?? deps.view.machineOn(node_id, machine_id)?.app ?? "";
    const stays = { machine_id, app, node_id, from_node_id: node_id, state: "stays" } as const;
    const reason = placed?.reason ?? "host_lost";
    if (!(await decidePlacement(deps, { ...stays, reason, launch: placed?.launch ?? true }, known))) return;
  }
  const back: LeaseFact = { node_id, term, ttl_ms, state: "held", ...(moved.length > 0 && { moved }) };
  if (await decideLease(deps, back, lease.revision))
    deps.logger.warn({ node_id, moved: moved.length, kept: asks.length - moved.length }, "a node is back");
}
