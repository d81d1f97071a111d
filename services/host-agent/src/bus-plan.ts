/**
 * Which server of the bus a host runs, who may log in to it, and which servers the host's services use: pure, from what
 * the host is and what the region is known to be.
 *
 * A region of one or two bus hosts has one server, on the first host: a cluster of two is down when either is. Three
 * make a cluster, once and for good.
 */
import { apiUser, type BusUser, nodeUser } from "@hearth/cluster";
import type { BusFact, NodeKeyFact } from "@hearth/machine";
import type { HostKeys } from "./host-keys.ts";
import { type NodeIdentity, rolesOf } from "./node-identity.ts";

export interface BusKnowledge {
  readonly identity: NodeIdentity;
  readonly keys: HostKeys;
  /** Of all nodes that this host's copy of the state has, and that were not removed. */
  readonly nodes: readonly NodeKeyFact[];
  /** Whether this host itself was removed from its region. */
  readonly isRemoved: boolean;
  readonly bus: BusFact | undefined;
  /** Where this host's own server is reached from here. */
  readonly ownServer: string;
  /** Whether this host's server has left the time in which it was alone. */
  readonly isMoved: boolean;
}

export interface BusPlan {
  /** none: this host runs no server. member: its server is one of a cluster. */
  readonly server: "none" | "alone" | "member";
  readonly users: readonly BusUser[];
  /** Of the cluster, `host:port`, when there is one. */
  readonly routes: readonly string[];
  /** What the services of this host connect to, the nearest first. */
  readonly servers: readonly string[];
}

/** How many servers a cluster has. */
export const clusterSize = 3;

export function planBus(known: BusKnowledge): BusPlan {
  const { identity, nodes, bus, ownServer, isMoved, isRemoved } = known;
  const isFirst = identity.joined === undefined;
  const isMember = bus?.members.includes(identity.node_id) === true;
  const members = (bus?.members ?? []).flatMap((id) => nodes.find(({ node_id }) => node_id === id) ?? []);
  const server =
    isRemoved || !rolesOf(identity).includes("bus")
      ? "none"
      : isFirst
        ? isMoved
          ? "member"
          : "alone"
        : isMember
          ? "member"
          : "none";
  const others = members.filter(({ node_id }) => node_id !== identity.node_id).map(clientUrl);
  const isFormed = bus?.state === "formed";
  const near = server === "alone" || (server === "member" && (isFormed || isFirst)) ? [ownServer] : [];
  const far = isFormed ? others : (identity.joined?.bus_servers ?? []);
  return {
    server,
    users: planUsers(known),
    routes: server === "member" ? members.map(({ bus: own }) => own?.route_url ?? "") : [],
    servers: [...new Set([...near, ...far])],
  };
}

/**
 * One user a key. The host's own are there also when its copy of the state is lost, so that its server can be used to
 * find out who the others are.
 */
function planUsers({ identity, keys, nodes }: BusKnowledge): BusUser[] {
  const roles = rolesOf(identity);
  const own: Pick<NodeKeyFact, "node_id" | "node_key" | "api_key"> = {
    node_id: identity.node_id,
    node_key: keys.node,
    ...(roles.includes("api") ? { api_key: keys.api } : {}),
  };
  const others = nodes.filter(({ node_id }) => node_id !== identity.node_id);
  return [own, ...others].flatMap(({ node_id, node_key, api_key }) => [
    nodeUser(node_id, node_key),
    ...(api_key === undefined ? [] : [apiUser(node_id, api_key)]),
  ]);
}

const clientUrl = ({ bus }: NodeKeyFact): string => bus?.client_url ?? "";

/** The hosts that a cluster would be made of; fewer than `clusterSize` while there are not enough. */
export function candidates(identity: NodeIdentity, nodes: readonly NodeKeyFact[]): NodeKeyFact[] {
  const able = nodes.filter(({ bus, seal_key }) => bus !== undefined && seal_key !== undefined);
  const first = able.filter(({ node_id }) => node_id === identity.node_id);
  const others = able.filter(({ node_id }) => node_id !== identity.node_id);
  return [...first, ...others.toSorted((a, b) => a.host_number - b.host_number)].slice(0, clusterSize);
}
