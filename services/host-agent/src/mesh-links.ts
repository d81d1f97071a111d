/** Makes and removes the interfaces of the mesh, by the kernel's WireGuard where it has one and by a process where not. */
import { join } from "node:path";
import type { MeshExecutor } from "@hearth/network";
import type { Logger } from "@hearth/telemetry";
import { LogFile } from "./log-file.ts";
import { Supervisor } from "./supervisor.ts";
import { endWireguard, removeSocket, WireguardProcess, wireguardProcesses } from "./wireguard-process.ts";

export type MeshDriver = "kernel" | "wireguard-go";

export interface MeshLinksDeps {
  readonly executor: MeshExecutor;
  readonly dataDir: string;
  /** Where programs are. */
  readonly path: string;
  readonly logger: Logger;
  /** Told when a link may have come or gone. */
  readonly onChange: () => void;
}

export class MeshLinks {
  readonly #deps: MeshLinksDeps;
  readonly #log: LogFile;
  readonly #supervisors = new Map<string, Supervisor>();
  #driver: MeshDriver | undefined;
  #isLeaving = false;

  constructor(deps: MeshLinksDeps) {
    this.#deps = deps;
    this.#log = new LogFile(join(deps.dataDir, "logs", "wireguard-go.log"));
  }

  /** Undefined until it was needed. */
  get driver(): MeshDriver | undefined {
    return this.#driver;
  }

  /** Why a link is not there, when its process cannot be kept running. */
  problem(name: string): string | undefined {
    const { state, last_exit } = this.#supervisors.get(name)?.status() ?? {};
    return state === "backoff"
      ? `wireguard-go for ${name} ended (${last_exit}) and is started again.`
      : undefined;
  }

  /** Has the link be there, at once or soon; may be called each time that it is found missing. */
  async make(name: string, signal: AbortSignal): Promise<void> {
    const { executor } = this.#deps;
    if (this.#driver === undefined) await executor.probeSilentWays(signal);
    this.#driver ??= (await executor.hasKernelWireguard(signal)) ? "kernel" : "wireguard-go";
    if (this.#driver === "kernel") await executor.makeKernelLink(name, signal);
    else this.#keep(name);
  }

  /** Links that are there before this agent made any: those of a process are watched from now on. */
  adopt(names: readonly string[]): void {
    if (this.#driver !== undefined || names.length === 0) return;
    const run = names.filter((name) => wireguardProcesses((link) => link === name).length > 0);
    this.#driver = run.length > 0 ? "wireguard-go" : "kernel";
    for (const name of run) this.#keep(name);
  }

  #keep(name: string): void {
    if (this.#supervisors.has(name)) return;
    const { path, logger, onChange } = this.#deps;
    const create = () =>
      new WireguardProcess({ link: name, path, log: this.#log, onChange, isLeft: () => this.#isLeaving });
    const supervisor = new Supervisor({ name: `wireguard-go ${name}`, create, logger });
    this.#supervisors.set(name, supervisor);
    supervisor.start();
  }

  async remove(name: string, signal?: AbortSignal): Promise<void> {
    const supervisor = this.#supervisors.get(name);
    this.#supervisors.delete(name);
    await supervisor?.stop();
    await endWireguard((link) => link === name);
    await this.#deps.executor.removeLink(name, signal);
    removeSocket(name);
  }

  /** All whose names begin so, whoever made them. */
  async removeAll(prefix: string, names: readonly string[]): Promise<void> {
    for (const name of new Set([...this.#supervisors.keys(), ...names])) await this.remove(name);
    await endWireguard((link) => link.startsWith(prefix));
  }

  /** Leaves the links as they are, for the next agent to find. */
  async leave(): Promise<void> {
    this.#isLeaving = true;
    for (const supervisor of this.#supervisors.values()) await supervisor.stop();
  }

  shortenLog(): void {
    this.#log.shorten();
  }
}
