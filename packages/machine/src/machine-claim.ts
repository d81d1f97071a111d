/**
 * Which machines there are, where several nodes may speak of one: pure. Whoever reads facts of machines (the API, the
 * names, the front door) judges by this, so that none of them takes for true what another does not.
 *
 * The key of a fact names the node that published it, and the bus lets a node publish under its own name only; what a
 * body says of another node or of another machine is not believed. Of two nodes that both claim a machine, the one counts that its
 * placement names, or that was known first where it never moved.
 */
import { factPrefixes, type MachineFact } from "./facts.ts";
import type { LeaseFact, NodePolicyFact, PlacementFact } from "./region-facts.ts";

/** What a fact of a machine is about, by its key; undefined for a key of another kind. */
export interface ClaimKey {
  readonly nodeId: string;
  readonly machineId: string;
}

export function readClaimKey(key: string): ClaimKey | undefined {
  if (!key.startsWith(factPrefixes.machine)) return undefined;
  const [, nodeId, machineId, more] = key.split(".");
  if (nodeId === undefined || nodeId === "" || machineId === undefined || machineId === "") return undefined;
  return more === undefined ? { nodeId, machineId } : undefined;
}

/** The fact, when it is the word of the node that its key names about the machine that its key names. */
export function believedClaim({ nodeId, machineId }: ClaimKey, value: unknown): MachineFact | undefined {
  const fact = value as MachineFact | undefined;
  return fact?.node_id === nodeId && fact.record.id === machineId ? fact : undefined;
}

/**
 * there: what it says of its machines counts. fenced: it lost its right to run machines, and what it said last is no
 * news of them. removed: it is no part of the region any more, and only it could delete what it said.
 */
export type NodeStanding = "there" | "fenced" | "removed";

export function nodeStanding(
  lease: Pick<LeaseFact, "state"> | undefined,
  policy: Pick<NodePolicyFact, "removed"> | undefined,
): NodeStanding {
  if (policy?.removed !== undefined || lease?.state === "removed") return "removed";
  return lease?.state === "fenced" ? "fenced" : "there";
}

/**
 * @param claims of one machine, the one that was known first being first
 * @param isBelieved whether what the node says of its machines counts at all
 */
export function countingClaim<Claim extends { readonly nodeId: string }>(
  claims: readonly Claim[],
  placement: Pick<PlacementFact, "node_id" | "state"> | undefined,
  isBelieved: (nodeId: string) => boolean,
): Claim | undefined {
  const there = claims.find(({ nodeId }) => nodeId === placement?.node_id && isBelieved(nodeId));
  if (there !== undefined) return there;
  // What an old node still says of a machine that it has lost for good is no news of it.
  if (placement?.state === "moved") return undefined;
  return claims.find(({ nodeId }) => isBelieved(nodeId));
}

export interface ClaimOrder {
  readonly nodeId: string;
  /** Of the fact. */
  readonly factRevision: number;
}

/** One that was known before keeps its place; a new one comes after all that are older. */
export function withClaim<Claim extends ClaimOrder>(claims: readonly Claim[], claim: Claim): Claim[] {
  const known = claims.findIndex(({ nodeId }) => nodeId === claim.nodeId);
  if (known >= 0) return claims.with(known, claim);
  const later = claims.findIndex(({ factRevision }) => factRevision > claim.factRevision);
  return claims.toSpliced(later < 0 ? claims.length : later, 0, claim);
}

export const withoutClaim = <Claim extends ClaimOrder>(claims: readonly Claim[], nodeId: string): Claim[] =>
  claims.filter((claim) => claim.nodeId !== nodeId);
