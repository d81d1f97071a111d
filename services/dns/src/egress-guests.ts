/**
 * What the guests of this host may send, as far as it has to do with names: of each machine what its own configuration
 * says over what its app says, kept fact by fact. A guest without a policy is not in here.
 */
import {
  type AppFact,
  type EgressPolicyInput,
  egressPolicyOf,
  factPrefixes,
  type MachineFact,
} from "@hearth/machine";
import type { EgressPolicy, GuestAddresses } from "@hearth/network";

export interface EgressGuest {
  readonly id: string;
  readonly addresses: GuestAddresses;
  readonly policy: EgressPolicy;
}

interface KnownMachine {
  readonly app: string;
  readonly addresses: GuestAddresses;
  readonly own: EgressPolicyInput | undefined;
}

export type OnGuestChange = (id: string, now: EgressGuest | undefined) => void;

export class EgressGuests {
  readonly #machinePrefix: string;
  readonly #apps = new Map<string, EgressPolicyInput>();
  readonly #machines = new Map<string, KnownMachine>();
  readonly #guests = new Map<string, EgressGuest>();
  readonly #idByAddress = new Map<string, string>();
  /** Told after each change of what a guest may send. */
  onChange: OnGuestChange = () => undefined;

  constructor(nodeId: string) {
    this.#machinePrefix = `${factPrefixes.machine}${nodeId}.`;
  }

  find(id: string): EgressGuest | undefined {
    return this.#guests.get(id);
  }

  /** Whose address it is, of either family. */
  at(address: string): EgressGuest | undefined {
    const id = this.#idByAddress.get(address);
    return id === undefined ? undefined : this.#guests.get(id);
  }

  take({ key, value }: { readonly key: string; readonly value?: unknown }): void {
    if (key.startsWith(factPrefixes.app))
      this.#takeApp(key.slice(factPrefixes.app.length), value as AppFact | undefined);
    else if (key.startsWith(this.#machinePrefix))
      this.#takeMachine(key.slice(this.#machinePrefix.length), value as MachineFact | undefined);
  }

  #takeApp(name: string, fact: AppFact | undefined): void {
    const said = fact?.egress?.policy;
    if (JSON.stringify(said) === JSON.stringify(this.#apps.get(name))) return;
    if (said === undefined) this.#apps.delete(name);
    else this.#apps.set(name, said);
    for (const [id, { app }] of this.#machines) if (app === name) this.#settle(id);
  }

  #takeMachine(id: string, fact: MachineFact | undefined): void {
    const isThere = fact !== undefined && fact.record.state !== "destroyed";
    const known = this.#machines.get(id);
    if (!isThere) {
      if (known === undefined) return;
      this.#machines.delete(id);
      this.#leaveAddresses(id, known);
      this.#settle(id);
      return;
    }
    const { app, egress_ip, record } = fact;
    const addresses = { v4: egress_ip, v6: record.private_ip };
    const now: KnownMachine = { app, addresses, own: record.config.network };
    if (JSON.stringify(known) === JSON.stringify(now)) return;
    if (known !== undefined) this.#leaveAddresses(id, known);
    this.#machines.set(id, now);
    for (const address of Object.values(addresses)) this.#idByAddress.set(address, id);
    this.#settle(id);
  }

  /** An address may be another's by now. */
  #leaveAddresses(id: string, { addresses }: KnownMachine): void {
    for (const address of Object.values(addresses))
      if (this.#idByAddress.get(address) === id) this.#idByAddress.delete(address);
  }

  #settle(id: string): void {
    const machine = this.#machines.get(id);
    const policy = machine && egressPolicyOf(this.#apps.get(machine.app), machine.own);
    const before = this.#guests.get(id);
    const now = machine && policy && { id, addresses: machine.addresses, policy };
    if (JSON.stringify(before) === JSON.stringify(now)) return;
    if (now === undefined) this.#guests.delete(id);
    else this.#guests.set(id, now);
    this.onChange(id, now);
  }
}
