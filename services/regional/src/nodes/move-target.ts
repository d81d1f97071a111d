/** A node that takes a machine which has to leave another: ranked as for a new one, and with room held there. */
import { HearthError } from "@hearth/errors";
import type { MachineFact } from "@hearth/machine";
import { firstWordLimitMs, nodeFactLimitMs } from "../placement/node-index.ts";
import { type PlacementRequest, rankNodes } from "../placement/placement.ts";
import type { RegionDeps } from "../state/region-writes.ts";

const reserveLimitMs = 3_000;
const reservationMs = 60_000;

export type Target = { readonly nodeId: string } | { readonly why: string };

/** @param except nodes that are not asked */
export async function findTarget(
  { view, images, worker }: RegionDeps,
  { app, record }: MachineFact,
  except: ReadonlySet<string>,
): Promise<Target> {
  const { cpus, memory_mb } = record.config.guest;
  // One that still has a copy of an earlier stay has to forget that first.
  const claims = new Set(view.claims(record.id).map(({ node_id }) => node_id));
  const { labels, anti_affinity } = record.config.placement ?? {};
  const request: PlacementRequest = {
    ...{ region: record.region, cpus, memoryMb: memory_mb, image: record.config.image },
    ...{ labels, antiAffinity: anti_affinity },
  };
  const ranked = () => {
    const nodes = view.nodeIndex
      .views(view.machinesPerNode(app))
      .filter(({ node: { node_id } }) => !except.has(node_id) && !claims.has(node_id));
    return rankNodes(nodes, request, nodeFactLimitMs);
  };
  let { candidates, refused } = ranked();
  // A process that has just begun has not heard the others yet, and takes none of them for silent.
  while (candidates.length === 0 && (await view.nodeIndex.hearsMore(firstWordLimitMs)))
    ({ candidates, refused } = ranked());
  const considered: { node_id: string; reason: string }[] = [...refused];
  for (const { node_id } of candidates) {
    try {
      await images.check(node_id, record.config.image);
      const request = { machine_id: record.id, guest: { cpus, memory_mb }, ttl_ms: reservationMs };
      await worker.command(node_id, "reserve", request, reserveLimitMs);
      return { nodeId: node_id };
    } catch (thrown) {
      considered.push({ node_id, reason: HearthError.from(thrown).message });
    }
  }
  if (considered.length === 0) return { why: "There is no other node." };
  const reasons = considered.map(({ node_id, reason }) => `${node_id} ${reason}`).join("; ");
  return { why: `No other node can take it: ${reasons}` };
}
