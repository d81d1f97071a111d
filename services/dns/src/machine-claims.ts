/**
 * Which machines there are, out of what nodes say of them; kept as facts change, and pure.
 *
 * A key names the node that published it, and the bus lets a node publish under its own name only; what a body says
 * of another node is not believed. Of two nodes that claim one machine, the one counts that its placement names, or
 * that was known first where it never moved. What a node that was fenced or removed said of its machines is true no
 * more: its names go with it, and come again with its lease.
 */
import {
  factPrefixes,
  type LeaseFact,
  type MachineFact,
  type NodePolicyFact,
  type PlacementFact,
} from "@hearth/machine";
import { type NamedMachine, namedMachine } from "./named-machine.ts";

export interface IncomingFact {
  readonly key: string;
  readonly value?: unknown;
  readonly revision: number;
}

interface Claim {
  readonly machine: NamedMachine;
  readonly revision: number;
}

type OnChange = (before: NamedMachine | undefined, after: NamedMachine | undefined) => void;

export class MachineClaims {
  /** By id, the claim that was known first being first. */
  readonly #claims = new Map<string, readonly Claim[]>();
  readonly #counted = new Map<string, NamedMachine>();
  readonly #onNode = new Map<string, Set<string>>();
  readonly #placements = new Map<string, Pick<PlacementFact, "node_id" | "state">>();
  /** Nodes that are not there, with what is known of it. */
  readonly #fenced = new Set<string>();
  readonly #removed = new Set<string>();
  readonly #onChange: OnChange;

  constructor(onChange: OnChange) {
    this.#onChange = onChange;
  }

  take(fact: IncomingFact): void {
    const { key, value } = fact;
    if (key.startsWith(factPrefixes.machine)) this.#takeMachine(fact);
    else if (key.startsWith(factPrefixes.placement))
      this.#takePlacement(key.slice(factPrefixes.placement.length), value as PlacementFact | undefined);
    else if (key.startsWith(factPrefixes.lease)) {
      const state = (value as LeaseFact | undefined)?.state;
      this.#mark(
        this.#fenced,
        key.slice(factPrefixes.lease.length),
        state === "fenced" || state === "removed",
      );
    } else if (key.startsWith(factPrefixes.nodePolicy)) {
      const { removed } = (value as NodePolicyFact | undefined) ?? {};
      this.#mark(this.#removed, key.slice(factPrefixes.nodePolicy.length), removed !== undefined);
    }
  }

  #takeMachine({ key, value, revision }: IncomingFact): void {
    const [, nodeId = "", keyId = ""] = key.split(".");
    const fact = value as MachineFact | undefined;
    const isBelieved = fact?.node_id === nodeId && fact.record.id === keyId;
    const machine = isBelieved ? namedMachine(fact) : undefined;
    const claims = this.#claims.get(keyId) ?? [];
    const at = claims.findIndex((claim) => claim.machine.nodeId === nodeId);
    if (machine === undefined) {
      if (at < 0) return;
      this.#settle(keyId, claims.toSpliced(at, 1));
      this.#onNode.get(nodeId)?.delete(keyId);
      return;
    }
    const ids = this.#onNode.get(nodeId) ?? new Set();
    this.#onNode.set(nodeId, ids.add(machine.id));
    const claim = { machine, revision };
    // One that was known before keeps its place; a new one comes after all that were.
    this.#settle(
      machine.id,
      at < 0
        ? inOrder([...claims, claim])
        : claims.with(at, { ...claim, revision: claims[at]?.revision ?? revision }),
    );
  }

  #takePlacement(id: string, placement: PlacementFact | undefined): void {
    if (placement === undefined) this.#placements.delete(id);
    else this.#placements.set(id, { node_id: placement.node_id, state: placement.state });
    this.#settle(id, this.#claims.get(id) ?? []);
  }

  #mark(nodes: Set<string>, nodeId: string, isMarked: boolean): void {
    if (nodes.has(nodeId) === isMarked) return;
    if (isMarked) nodes.add(nodeId);
    else nodes.delete(nodeId);
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
    const there = claims.filter(
      ({ machine: { nodeId } }) => !this.#removed.has(nodeId) && !this.#fenced.has(nodeId),
    );
    const placed = this.#placements.get(id);
    const chosen = there.find(({ machine }) => machine.nodeId === placed?.node_id);
    if (chosen !== undefined) return chosen.machine;
    // What an old node still says of a machine that it has lost for good is no news of it.
    return placed?.state === "moved" ? undefined : there[0]?.machine;
  }
}

const inOrder = (claims: readonly Claim[]): Claim[] => claims.toSorted((a, b) => a.revision - b.revision);
