/**
 * What the removal of a node has to do with the bus. The servers are changed by the agents of those that stay, who see
 * that a node is removed; here is looked first whether the bus goes on without it, and then whether it does.
 */
import { HearthError } from "@hearth/errors";
import { type BusFact, factKeys, factPrefixes, type NodeKeyFact } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import type { ClusterView } from "../state/cluster-view.ts";

/** left: the servers of the bus have another secret, and none of them is this node's. */
export const busExits = ["left", "leaving"] as const;
export type BusExit = (typeof busExits)[number];

const smallestCluster = 2;
const exitLimitMs = 20_000;

const busFact = ({ replica }: ClusterView): BusFact | undefined =>
  replica.get(factKeys.bus())?.value as BusFact | undefined;

export const isBusMember = (view: ClusterView, nodeId: string): boolean =>
  busFact(view)?.members.includes(nodeId) === true;

/** @throws HearthError `conflict` when the bus would stop without the node */
export function refuseForBus({ view }: Pick<ApiContext, "view">, nodeId: string): void {
  const fact = busFact(view);
  const hosts = view.replica
    .list(factPrefixes.nodeKey)
    .map(({ value }) => value as NodeKeyFact)
    .filter(({ node_id, bus }) => bus !== undefined && !view.region.isRemoved(node_id))
    .toSorted((a, b) => a.host_number - b.host_number);
  if (fact?.state !== "formed") {
    if (hosts[0]?.node_id !== nodeId) return;
    throw refusal(nodeId, `Node ${nodeId} has the only server of the bus, so it cannot be removed.`);
  }
  if (!fact.members.includes(nodeId)) return;
  const staying = fact.members.filter((id) => id !== nodeId && !view.region.isRemoved(id));
  if (staying.length < smallestCluster)
    throw refusal(
      nodeId,
      `Node ${nodeId} has one of the last two servers of the bus, which stops without it. Join another host with --bus, and remove this one when \`hearth doctor\` says that three copies of the state are current.`,
    );
  const silent = staying.filter((id) => view.node(id) !== undefined && !view.isNodeFresh({ node_id: id }));
  if (silent.length > 0)
    throw refusal(
      nodeId,
      `The bus goes on without node ${nodeId} only when its other servers do, and ${silent.join(" and ")} is unreachable. Bring that host up first.`,
    );
}

/** Waits, within a limit, for the servers to go on without the node. */
export async function waitForBusExit({ view }: Pick<ApiContext, "view">, nodeId: string): Promise<BusExit> {
  const { promise, resolve } = Promise.withResolvers<BusExit>();
  const look = (): void => {
    if (!isBusMember(view, nodeId)) resolve("left");
  };
  const watching = view.replica.watch(factPrefixes.bus, look);
  const timer = setTimeout(() => resolve("leaving"), exitLimitMs);
  try {
    look();
    return await promise;
  } finally {
    watching[Symbol.dispose]();
    clearTimeout(timer);
  }
}

const refusal = (nodeId: string, message: string): HearthError =>
  new HearthError("conflict", { message, details: { node_id: nodeId } });
