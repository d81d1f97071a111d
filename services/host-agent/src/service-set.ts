/**
 * The services of a node: what each is started as, in which order they come and go, and how those that an
 * agent left behind when it was killed are found again.
 */
import { basename, join } from "node:path";
import { type NatsServerConfig, renderNatsConfig } from "@hearth/cluster";
import type { NodeRole } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import { LogFile } from "./log-file.ts";
import { makeDirectory, writeWhole } from "./node-identity.ts";
import { endProcesses, findProcesses } from "./process-identity.ts";
import { ChildService } from "./service-process.ts";
import { isServiceProgram, serviceProgram } from "./service-program.ts";
import type { AgentSettings } from "./settings.ts";
import { type ServiceStatus, Supervisor } from "./supervisor.ts";

export interface ServiceSetOptions {
  readonly settings: AgentSettings;
  readonly environment: Readonly<Record<string, string>>;
  readonly logger: Logger;
  readonly configPath: string;
  readonly roles: readonly NodeRole[];
  /** What the bus server is to be told each time that it starts. */
  readonly busConfig: () => NatsServerConfig;
}

/** In the order of their start; they end in the reverse order, so that none misses one that it needs. */
const nodeServices = ["images", "dns", "worker", "regional", "ingress", "ssh"] as const;
const roleOf = {
  images: "worker",
  dns: "worker",
  worker: "worker",
  regional: "api",
  ingress: "worker",
  ssh: "api",
} as const;
const busName = "nats-server";
const stopLimitMs = 6_000;

/** A service's garbage is young, and Node's default nursery lets it grow to tens of megabytes before it looks. */
export const nodeArguments: readonly string[] = [
  "--max-semi-space-size=2",
  "--disable-warning=ExperimentalWarning",
];

type Program = () => { readonly command: string; readonly args: readonly string[] };

export class ServiceSet {
  readonly #options: ServiceSetOptions;
  readonly #supervisors = new Map<string, Supervisor>();
  readonly #logs = new Map<string, LogFile>();
  #bus: Supervisor | undefined;

  constructor(options: ServiceSetOptions) {
    this.#options = options;
    for (const name of nodeServices) {
      if (!options.roles.includes(roleOf[name])) continue;
      this.#add(name, () => ({
        command: process.execPath,
        args: [...nodeArguments, serviceProgram(options.settings, name)],
      }));
    }
  }

  /** Does nothing when it runs. */
  startBus(): void {
    if (this.#bus !== undefined) return;
    this.#bus = this.#make(busName, () => ({ command: busName, args: ["-c", this.#writeBusConfig()] }));
    this.#bus.start();
  }

  async stopBus(): Promise<void> {
    await this.#bus?.stop();
    this.#bus = undefined;
  }

  /** Has the server take up who may log in; it goes on serving those whose rights stay. */
  reloadBus(): void {
    const pid = this.#bus?.status().pid ?? null;
    if (pid === null) return;
    this.#writeBusConfig();
    process.kill(pid, "SIGHUP");
  }

  startOthers(): void {
    for (const name of nodeServices) this.#supervisors.get(name)?.start();
  }

  async stop(): Promise<void> {
    for (const supervisor of [...this.#supervisors.values()].reverse()) await supervisor.stop();
    await this.stopBus();
  }

  status(): ServiceStatus[] {
    const bus = this.#bus === undefined ? [] : [this.#bus];
    return [...bus, ...this.#supervisors.values()].map((supervisor) => supervisor.status());
  }

  /** Ends with the present life of the worker. */
  workerLife(): AbortSignal {
    return this.#supervisors.get("worker")?.life ?? AbortSignal.abort();
  }

  shortenLogs(): void {
    for (const log of this.#logs.values()) log.shorten();
  }

  /**
   * Ends the services of an agent that was killed. They are told by the data directory in their environment and
   * by their program: what a worker started (a VMM) may have inherited the first, and is not touched.
   */
  async endLeftovers(): Promise<void> {
    const mark = `HEARTH_DATA_DIR=${this.#options.settings.dataDir}`;
    const left = findProcesses(
      (args, environment) =>
        environment.includes(mark) &&
        (basename(args[0] ?? "") === busName ||
          nodeServices.some((name) => isServiceProgram(args.at(-1) ?? "", name))),
    );
    if (left.length > 0) this.#options.logger.warn({ count: left.length }, "ending services left behind");
    await endProcesses(left, stopLimitMs);
  }

  #add(name: string, program: Program): void {
    this.#supervisors.set(name, this.#make(name, program));
  }

  #make(name: string, program: Program): Supervisor {
    const { settings, environment, configPath, logger } = this.#options;
    const log = new LogFile(join(settings.dataDir, "logs", `${name}.log`));
    const env = {
      ...environment,
      HEARTH_NODE_CONFIG: configPath,
      HEARTH_DATA_DIR: settings.dataDir,
      NODE_COMPILE_CACHE: join(settings.dataDir, "compile-cache"),
    };
    this.#logs.set(name, log);
    const create = () => new ChildService({ ...program(), env, log, stopLimitMs });
    return new Supervisor({ name, create, logger });
  }

  #writeBusConfig(): string {
    const config = this.#options.busConfig();
    makeDirectory(config.dir, 0o700);
    const path = join(config.dir, "nats.conf");
    writeWhole(path, renderNatsConfig(config), 0o600);
    return path;
  }
}
