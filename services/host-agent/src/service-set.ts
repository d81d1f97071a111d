/**
 * The services of a node: what each is started as, in which order they come and go, and how those that an
 * agent left behind when it was killed are found again.
 */
import { basename, join } from "node:path";
import { type NatsServerConfig, renderNatsConfig } from "@hearth/cluster";
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
  readonly nats: { readonly port: number; readonly user: string; readonly pass: string };
}

/** In the order of their start; they end in the reverse order, so that none misses one that it needs. */
const nodeServices = ["images", "worker", "regional"] as const;
const busName = "nats-server";
const stopLimitMs = 6_000;

/** A service's garbage is young, and Node's default nursery lets it grow to tens of megabytes before it looks. */
export const nodeArguments: readonly string[] = [
  "--max-semi-space-size=2",
  "--disable-warning=ExperimentalWarning",
];

export class ServiceSet {
  readonly #options: ServiceSetOptions;
  readonly #supervisors = new Map<string, Supervisor>();
  readonly #logs = new Map<string, LogFile>();

  constructor(options: ServiceSetOptions) {
    this.#options = options;
    this.#add(busName, () => ({ command: busName, args: ["-c", this.#writeBusConfig()] }));
    for (const name of nodeServices) {
      this.#add(name, () => ({
        command: process.execPath,
        args: [...nodeArguments, serviceProgram(options.settings, name)],
      }));
    }
  }

  startBus(): void {
    this.#supervisors.get(busName)?.start();
  }

  startOthers(): void {
    for (const name of nodeServices) this.#supervisors.get(name)?.start();
  }

  async stop(): Promise<void> {
    for (const supervisor of [...this.#supervisors.values()].reverse()) await supervisor.stop();
  }

  status(): ServiceStatus[] {
    return [...this.#supervisors.values()].map((supervisor) => supervisor.status());
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

  #add(name: string, program: () => { readonly command: string; readonly args: readonly string[] }): void {
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
    this.#supervisors.set(name, new Supervisor({ name, create, logger }));
  }

  #writeBusConfig(): string {
    const { settings, nats } = this.#options;
    const dir = join(settings.dataDir, "nats");
    makeDirectory(dir, 0o700);
    const path = join(dir, "nats.conf");
    const config: NatsServerConfig = { dir, port: nats.port, user: nats.user, pass: nats.pass };
    writeWhole(path, renderNatsConfig(config), 0o600);
    return path;
  }
}
