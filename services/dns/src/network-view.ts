/** The names that one network sees: its apps, and of each the machines that answer. */
import type { NamedMachine } from "./named-machine.ts";

const none: ReadonlyMap<string, NamedMachine> = new Map();

export class NetworkView {
  /** Apps that exist, also those of which no machine answers. */
  readonly #apps = new Set<string>();
  readonly #machines = new Map<string, Map<string, NamedMachine>>();
  readonly #byAddress = new Map<string, NamedMachine>();
  #version = 0;

  /** Another number after each change of what this network sees. */
  get version(): number {
    return this.#version;
  }

  hasApp(app: string): boolean {
    return this.#apps.has(app) || this.#machines.has(app);
  }

  /** By name. */
  apps(): string[] {
    return [...new Set([...this.#apps, ...this.#machines.keys()])].sort();
  }

  /** By id. */
  machines(app: string): NamedMachine[] {
    return [...(this.#machines.get(app) ?? none).values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  machine(app: string, id: string): NamedMachine | undefined {
    return this.#machines.get(app)?.get(id);
  }

  /** In the form of `formatMachineAddress`, or of IPv4. */
  at(address: string): NamedMachine | undefined {
    return this.#byAddress.get(address);
  }

  addApp(app: string): void {
    this.#version += 1;
    this.#apps.add(app);
  }

  removeApp(app: string): void {
    this.#version += 1;
    this.#apps.delete(app);
  }

  add(machine: NamedMachine): void {
    this.#version += 1;
    const machines = this.#machines.get(machine.app) ?? new Map<string, NamedMachine>();
    this.#machines.set(machine.app, machines.set(machine.id, machine));
    this.#byAddress.set(machine.address, machine);
  }

  remove({ app, id, address }: NamedMachine): void {
    this.#version += 1;
    const machines = this.#machines.get(app);
    machines?.delete(id);
    if (machines?.size === 0) this.#machines.delete(app);
    // Its address may be another's by now.
    if (this.#byAddress.get(address)?.id === id) this.#byAddress.delete(address);
  }
}
