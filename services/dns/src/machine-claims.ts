/**
 * Which machines there are, out of what nodes say of them; kept as facts change, and pure.
 *
 * Of two nodes that claim one machine, the one counts that `countingClaim` says. What a node that was fenced or removed
 * said of its machines is true no more: its names go with it, and come again with its lease.
 */
import {
  believedClaim,
  type ClaimOrder,
  countingClaim,
  factPrefixes,
  type LeaseFact,
  type NodePolicyFact,
  nodeStanding,
  type PlacementFact,
  readClaimKey,
  withClaim,
  withoutClaim,
} from "@hearth/machine";
import { type NamedMachine, namedMachine } from "./named-machine.ts";

export interface IncomingFact {
  readonly key: string;
  readonly value?: unknown;
  readonly revision: number;
}

interface Claim extends ClaimOrder {
  readonly machine: NamedMachine;
}

type OnChange = (before: NamedMachine | undefined, after: NamedMachine | undefined) => void;

export class MachineClaims {
  /** By id, the claim that was known first being first. */
  readonly #claims = new Map<string, readonly Claim[]>();
  readonly #counted = new Map<string, NamedMachine>();
  readonly #onNode = new Map<string, Set<string>>();
  readonly #placements = new Map<string, Pick<PlacementFact, "node_id" | "state">>();
  readonly #leases = new Map<string, Pick<LeaseFact, "state">>();
  readonly #policies = new Map<string, Pick<NodePolicyFact, "removed">>();
  /** Nodes whose word does not count. */
  readonly #gone = new Set<string>();
  readonly #onChange: OnChange;

  constructor(onChange: OnChange) {
    this.#onChange = onChange;
  }

  take(fact: IncomingFact): void {
    const { key, value } = fact;
    if (key.startsWith(factPrefixes.machine)) this.#takeMachine(fact);
    else if (key.startsWith(factPrefixes.placement))
      this.#takePlacement(key.slice(factPrefixes.placement.length), value as PlacementFact | undefined);
    else if (key.startsWith(factPrefixes.lease))
      this.#judge(key.slice(factPrefixes.lease.length), this.#leases, value as LeaseFact | undefined);
    else if (key.startsWith(factPrefixes.nodePolicy))
      this.#judge(
        key.slice(factPrefixes.nodePolicy.length),
        this.#policies,
        value as NodePolicyFact | undefined,
      );
  }

  #takeMachine({ key, value, revision }: IncomingFact): void {
    const claimed = readClaimKey(key);
    if (claimed === undefined) return;
    const { nodeId, machineId } = claimed;
    const fact = believedClaim(claimed, value);
    const machine = fact && namedMachine(fact);
    const claims = this.#claims.get(machineId) ?? [];
    if (machine === undefined) {
      this.#onNode.get(nodeId)?.delete(machineId);
      this.#settle(machineId, withoutClaim(claims, nodeId));
      return;
    }
    const ids = this.#onNode.get(nodeId) ?? new Set();
    this.#onNode.set(nodeId, ids.add(machine.id));
    this.#settle(machine.id, withClaim(claims, { nodeId: machine.nodeId, factRevision: revision, machine }));
  }

  #takePlacement(id: string, placement: PlacementFact | undefined): void {
    if (placement === undefined) this.#placements.delete(id);
    else this.#placements.set(id, { node_id: placement.node_id, state: placement.state });
    this.#settle(id, this.#claims.get(id) ?? []);
  }

  #judge<What>(nodeId: string, known: Map<string, What>, value: What | undefined): void {
    if (value === undefined) known.delete(nodeId);
    else known.set(nodeId, value);
    const isGone = nodeStanding(this.#leases.get(nodeId), this.#policies.get(nodeId)) !== "there";
    if (isGone === this.#gone.has(nodeId)) return;
    if (isGone) this.#gone.add(nodeId);
    else this.#gone.delete(nodeId);
    for (const id of this.#onNode.get(nodeId) ?? []) this.#settle(id, this.#claims.get(id) ?? []);
  }

  #settle(id: string, claims: readonly Claim[]): void {
    if (claims.length === 0) this.#claims.delete(id);
    else this.#claims.set(id, claims);
    const before = this.#counted.get(id);
    const after = this.#winner(id, claims);
    if (after === undefined) this.#counted.delete(id);
    else this.#counted.set(id, after);
    if (before !== after) this.#onChange(before, after);
  }

  #winner(id: string, claims: readonly Claim[]): NamedMachine | undefined {
    return countingClaim(claims, this.#placements.get(id), (nodeId) => !this.#gone.has(nodeId))?.machine;
  }
}
