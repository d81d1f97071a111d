/**
 * All names of the region, by network, kept fact by fact: pure, with no look at the replica. A network sees its own
 * apps and machines and no others; the host sees those of all. What a fact changes here, it changes before `take`
 * returns, so that the next question is answered by it.
 */
import { type AppFact, factPrefixes, type NodeKeyFact } from "@hearth/machine";
import { type IncomingFact, MachineClaims } from "./machine-claims.ts";
import { answersAlike, type NamedMachine } from "./named-machine.ts";
import { NetworkView } from "./network-view.ts";

/** Which facts names are made of. */
export const nameFactPrefixes = [
  // Before machines, so that none is answered with that is not there.
  ...[factPrefixes.nodePolicy, factPrefixes.lease, factPrefixes.placement],
  ...[factPrefixes.nodeKey, factPrefixes.app, factPrefixes.machine],
] as const;

interface KnownApp {
  readonly name: string;
  readonly network: number;
}

export class NameIndex {
  readonly #views = new Map<number, NetworkView>();
  readonly #claims: MachineClaims;
  readonly #apps = new Map<string, KnownApp>();
  readonly #apiUrls = new Map<string, string>();
  /** Networks of guests of this host, by the address that they have in IPv4. */
  readonly #egress = new Map<string, { readonly id: string; readonly network: number }>();
  readonly #nodeId: string;
  #version = 0;
  readonly host = new NetworkView();

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
    this.#claims = new MachineClaims((before, after) => this.#change(before, after));
  }

  /** Of what all networks see alike: another number after each change. */
  get version(): number {
    return this.#version;
  }

  /** The same one for ever, so that whoever asks for a network may keep it; one that nobody has heard of sees nothing. */
  view(network: number): NetworkView {
    const known = this.#views.get(network);
    if (known !== undefined) return known;
    const view = new NetworkView();
    this.#views.set(network, view);
    return view;
  }

  /** Of the guest of this host that has this address in IPv4. */
  networkOfEgress(address: string): number | undefined {
    return this.#egress.get(address)?.network;
  }

  /** Where the region's API is reached, by node. */
  apiUrls(): string[] {
    return [...this.#apiUrls.keys()].sort().flatMap((nodeId) => this.#apiUrls.get(nodeId) ?? []);
  }

  take(fact: IncomingFact): void {
    const { key, value } = fact;
    if (key.startsWith(factPrefixes.app)) this.#takeApp(key, value as AppFact | undefined);
    else if (key.startsWith(factPrefixes.nodeKey)) this.#takeNodeKey(key, value as NodeKeyFact | undefined);
    else this.#claims.take(fact);
  }

  #takeApp(key: string, fact: AppFact | undefined): void {
    const before = this.#apps.get(key);
    const after = fact === undefined ? undefined : { name: fact.name.toLowerCase(), network: fact.network };
    if (before?.name === after?.name && before?.network === after?.network) return;
    if (before !== undefined) {
      this.#apps.delete(key);
      this.#leave(before.network, (view) => view.removeApp(before.name));
    }
    if (after !== undefined) {
      this.#apps.set(key, after);
      this.#enter(after.network, (view) => view.addApp(after.name));
    }
  }

  #takeNodeKey(key: string, fact: NodeKeyFact | undefined): void {
    const nodeId = key.slice(factPrefixes.nodeKey.length);
    if (fact?.api_url === this.#apiUrls.get(nodeId)) return;
    this.#version += 1;
    if (fact?.api_url === undefined) this.#apiUrls.delete(nodeId);
    else this.#apiUrls.set(nodeId, fact.api_url);
  }

  #change(before: NamedMachine | undefined, after: NamedMachine | undefined): void {
    if (answersAlike(before, after)) return;
    if (before !== undefined) {
      if (this.#egress.get(before.egressAddress)?.id === before.id) this.#egress.delete(before.egressAddress);
      if (before.answers) this.#leave(before.network, (view) => view.remove(before));
    }
    if (after === undefined) return;
    const { id, network, nodeId, egressAddress } = after;
    if (nodeId === this.#nodeId) this.#egress.set(egressAddress, { id, network });
    if (after.answers) this.#enter(network, (view) => view.add(after));
  }

  #enter(network: number, add: (view: NetworkView) => void): void {
    add(this.view(network));
    add(this.host);
  }

  #leave(network: number, remove: (view: NetworkView) => void): void {
    remove(this.view(network));
    remove(this.host);
  }
}
