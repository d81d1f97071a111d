/**
 * What is to be done next about who the servers of the bus are, as one of their hosts sees it: pure. Each step is one
 * write of the fact by compare-and-set, so that whoever dies leaves what the next look goes on with.
 *
 * A host that is removed has the secret of the servers, so the others get a new one before it counts as gone: it is
 * offered to all who stay, each says that it has it on disk, and then it is what counts. No server ever takes both. One
 * that took the old one while another took the new one could be told of the removed one's server, and would greet it
 * with the new secret.
 */
import type { BusFact, NodeKeyFact } from "@hearth/machine";
import { clusterSize } from "./bus-plan.ts";

export type BusChange =
  | { readonly step: "none"; readonly problem?: string }
  /** Nobody goes, so the secret stays. */
  | { readonly step: "grow"; readonly members: readonly NodeKeyFact[] }
  | { readonly step: "offer"; readonly members: readonly NodeKeyFact[] }
  /** This host has what is offered. */
  | { readonly step: "say_ready" }
  | { readonly step: "commit" };

export interface BusSituation {
  readonly nodeId: string;
  /** That are known here; a copy of the state that is being filled may lack some. */
  readonly nodes: readonly NodeKeyFact[];
  /** Ids of nodes that are said to be removed. That a node is not known does not make it one. */
  readonly removed: ReadonlySet<string>;
  readonly fact: BusFact;
  /** Of the secret that this host has on disk for later, if it has one. */
  readonly nextNumber: number | undefined;
}

/** A cluster of fewer has no majority that outlives anything, and one of one never has a leader. */
export const smallestCluster = 2;

export function planBusChange(situation: BusSituation): BusChange {
  const { nodeId, nodes, removed, fact, nextNumber } = situation;
  if (fact.state !== "formed" || removed.has(nodeId)) return none;
  const { next } = fact;
  const isOffered = next !== undefined && next.secret_number === nextNumber && isOf(next.members, nodeId);
  if (isOffered && isOf(fact.members, nodeId) && !isOf(next.ready, nodeId)) return { step: "say_ready" };
  const staying = fact.members.filter((id) => !removed.has(id));
  const known = staying.flatMap((id) => nodes.find(({ node_id }) => node_id === id) ?? []);
  if (staying[0] !== nodeId || known.length < staying.length) return none;

  const members = [...known, ...candidatesOf(situation)].slice(0, clusterSize);
  if (next !== undefined && idsOf(members) === next.members.join()) {
    const waiting = staying.filter((id) => !isOf(next.ready, id));
    return waiting.length === 0 ? { step: "commit" } : { step: "none", problem: waitsFor(waiting) };
  }
  if (staying.length < fact.members.length || next !== undefined)
    return members.length < smallestCluster
      ? { step: "none", problem: lastServer }
      : { step: "offer", members };
  return members.length > fact.members.length ? { step: "grow", members } : none;
}

const none: BusChange = { step: "none" };
const lastServer =
  "One server of the bus is left, which cannot change its secret alone; join another host with --bus.";
const waitsFor = (ids: readonly string[]): string =>
  `The servers of the bus get a new secret, as a host was removed; until ${ids.join(" and ")} has taken it, the removed host's server may take part.`;

/** Hosts that could run a server and do not, in the order of their numbers. */
const candidatesOf = ({ nodes, removed, fact }: BusSituation): NodeKeyFact[] =>
  nodes
    .filter(({ node_id, bus, seal_key }) => {
      const isAble = bus !== undefined && seal_key !== undefined;
      return isAble && !removed.has(node_id) && !isOf(fact.members, node_id);
    })
    .toSorted((a, b) => a.host_number - b.host_number);

const isOf = (ids: readonly string[], id: string): boolean => ids.includes(id);
const idsOf = (nodes: readonly NodeKeyFact[]): string => nodes.map(({ node_id }) => node_id).join();
