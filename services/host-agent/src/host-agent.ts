/**
 * Brings one host to what its manifest says, and keeps it there: directories, the base of the firewall, and the
 * services as child processes. Machines belong to the worker; they live on when a service, or this agent, ends.
 *
 * Two ways to end. `down` asks the worker to stop its machines, keeping what was wanted of them, and takes
 * everything away. `release` ends the services only: the next agent finds the machines running.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Bus, type NodeConfig, natsServerVersion } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { MeshExecutor, NetworkExecutor, parseClusterPrefix, resolverAddress } from "@hearth/network";
import type { Logger } from "@hearth/telemetry";
import { type KvmProbe, probeKvm } from "@hearth/vmm";
import type { AgentState, AgentStatus } from "./agent-status.ts";
import { ControlServer, type DownRequest } from "./control-server.ts";
import { dnsPort } from "./dns-health.ts";
import { HostBus } from "./host-bus.ts";
import { type HostFacts, readHostFacts } from "./host-facts.ts";
import { ensureHostKeys } from "./host-keys.ts";
import { HostMesh } from "./host-mesh.ts";
import { assertPortFree, freePort, prepareDirectories, requireHost } from "./host-prepare.ts";
import { acquireLock } from "./instance-lock.ts";
import { kvmAnswer } from "./kvm-answer.ts";
import { NetworkPairs } from "./network-pairs.ts";
import { apiUrl, checkNode, frontDoor, type Problems } from "./node-health.ts";
import {
  ensureToken,
  type NodeIdentity,
  readIdentity,
  rolesOf,
  tokenPath,
  writeWhole,
} from "./node-identity.ts";
import { planManifest } from "./node-manifest.ts";
import { ServiceSet } from "./service-set.ts";
import { servicesHealth } from "./services-health.ts";
import { type AgentSettings, serviceEnvironment } from "./settings.ts";

export interface HostAgentDeps {
  readonly settings: AgentSettings;
  readonly logger: Logger;
  readonly network?: NetworkExecutor;
  readonly probe?: typeof probeKvm;
}

export const socketPath = (runDir: string): string => join(runDir, "agent.sock");
/** Which API commands of this host speak to, when nobody names another. */
const apiUrlPath = (runDir: string): string => join(runDir, "api-url");
const configPath = (runDir: string): string => join(runDir, "node.json");

const defaultStopMs = 15_000;
/** What the worker gets beyond the machines' own time, to take their networks and disks away. */
const teardownMs = 30_000;
const startingCheckMs = 50;
const checkMs = 5_000;
const tellLimitMs = 2_000;
/** For the bus to have a state, before services are started that need it. */
const busLimitMs = 2_000;

export class HostAgent {
  /** Resolves when the agent has nothing left to do. */
  readonly ended: Promise<void>;
  readonly #settings: AgentSettings;
  readonly #logger: Logger;
  readonly #network: NetworkExecutor;
  readonly #probe: typeof probeKvm;
  readonly #ending = new AbortController();
  readonly #startedAtMs = Date.now();
  #resolveEnded: () => void = () => undefined;
  #lock: Disposable | undefined;
  #config: NodeConfig | undefined;
  #kvm: KvmProbe = { usable: false, reason: "" };
  #services: ServiceSet | undefined;
  #control: ControlServer | undefined;
  #hostBus: HostBus | undefined;
  #mesh: HostMesh | undefined;
  #pairs: NetworkPairs | undefined;
  #identity: NodeIdentity | undefined;
  #watching: Promise<void> | undefined;
  #going: Promise<void> | undefined;
  #state: AgentState = "starting";
  #problems: Problems = {};

  constructor({ settings, logger, network, probe }: HostAgentDeps) {
    this.#probe = probe ?? probeKvm;
    this.#settings = settings;
    this.#logger = logger;
    this.#network = network ?? new NetworkExecutor();
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** Resolves when everything is started, not when it is ready: `status` says that. */
  async start(): Promise<void> {
    const { dataDir, runDir } = this.#settings;
    const environment = serviceEnvironment();
    const host = readHostFacts(environment.PATH ?? "");
    requireHost(host, this.#settings);
    this.#lock = acquireLock(dataDir, runDir);
    let runDirIsNew = false;
    try {
      runDirIsNew = prepareDirectories(this.#settings);
      await this.#bringUp(host, environment);
    } catch (error) {
      await this.#pairs?.stop();
      await this.#mesh?.stop({ leave: true });
      await this.#hostBus?.stop();
      await this.#services?.stop();
      await this.#leave(runDirIsNew);
      throw error;
    }
  }

  async #bringUp(host: HostFacts, environment: Readonly<Record<string, string>>): Promise<void> {
    const settings = this.#settings;
    const identity = readIdentity(settings.dataDir, settings);
    this.#identity = identity;
    const roles = rolesOf(identity);
    if (roles.includes("api")) ensureToken(settings.dataDir);
    const port = identity.address === undefined ? await freePort() : settings.busPort;
    const services = new ServiceSet({
      settings,
      environment,
      logger: this.#logger,
      configPath: configPath(settings.runDir),
      roles,
      busConfig: () => bus.config(),
    });
    this.#services = services;
    await services.endLeftovers();
    await this.#assertPortsFree(identity);
    const keys = ensureHostKeys(settings.dataDir);
    const bus = new HostBus({
      settings,
      identity,
      keys,
      port,
      natsVersion: await natsServerVersion(),
      services: () => services,
      logger: this.#logger,
    });
    this.#hostBus = bus;
    bus.open();
    bus.start();
    this.#kvm = await kvmAnswer(settings.assetsDir, this.#probe);
    const config = planManifest({ settings, identity, host, kvm: this.#kvm, busServers: bus.plan().servers });
    this.#config = config;
    writeWhole(configPath(settings.runDir), JSON.stringify(config), 0o600);
    writeWhole(apiUrlPath(settings.runDir), `${this.#apiUrl(config)}\n`, 0o644);
    const mesh = new HostMesh({
      ...{ settings, identity, replica: bus.replica, connected: bus.connected, logger: this.#logger },
      ...{ executor: new MeshExecutor(), path: environment.PATH ?? "" },
    });
    this.#mesh = mesh;
    const firewall = { ...firewallFacts(config), meshInterfaces: mesh.interfaces() };
    await this.#network.applyNode(firewall, this.#ending.signal);
    await this.#network.addLocalAddress(resolverOf(config), this.#ending.signal);
    mesh.start();
    this.#control = new ControlServer({
      socketPath: socketPath(settings.runDir),
      status: () => this.status(),
      down: (request) => this.down(request),
    });
    await this.#control.start();
    // A service that finds no state waits for seconds before it looks again.
    await Promise.race([bus.settled, delay(busLimitMs, undefined, { ref: false })]);
    this.#pairs = new NetworkPairs({
      ...{ nodeId: identity.node_id, replica: bus.replica, network: this.#network, logger: this.#logger },
    });
    this.#pairs.start();
    services.startOthers();
    this.#watching = this.#watch(config);
  }

  status(): AgentStatus {
    const { settings, config } = { settings: this.#settings, config: this.#config };
    if (config === undefined) throw new HearthError("unavailable", { message: "The agent is starting." });
    return {
      state: this.#state,
      pid: process.pid,
      started_at_ms: this.#startedAtMs,
      node_id: config.node_id,
      region: config.region,
      roles: this.#identity === undefined ? [] : rolesOf(this.#identity),
      address: this.#identity?.address ?? null,
      api_url: this.#apiUrl(config),
      bus: this.#hostBus?.status() ?? null,
      mesh: this.#mesh?.status() ?? null,
      token_path: tokenPath(settings.dataDir),
      data_dir: settings.dataDir,
      run_dir: settings.runDir,
      accelerator: config.accelerator,
      accelerator_reason: this.#kvm.reason,
      capacity: config.capacity,
      warnings: config.warnings,
      services: this.#services?.status() ?? [],
      problems: [
        ...Object.values(this.#problems),
        ...(this.#hostBus?.problems() ?? []),
        ...(this.#mesh?.problems() ?? []),
      ],
    };
  }

  /** This host's, or one of its region's where it has none. */
  #apiUrl(config: NodeConfig): string {
    const own = this.#identity === undefined || rolesOf(this.#identity).includes("api");
    return own ? apiUrl(config.api) : (this.#identity?.joined?.api_urls[0] ?? apiUrl(config.api));
  }

  async #assertPortsFree(identity: NodeIdentity): Promise<void> {
    const { apiHost, apiPort, sshPort, busPort, routePort } = this.#settings;
    const host = identity.address ?? apiHost;
    const roles = rolesOf(identity);
    if (roles.includes("api")) await assertPortFree(host, apiPort, "HEARTH_API_PORT");
    if (roles.includes("api")) await assertPortFree(host, sshPort, "HEARTH_SSH_PORT");
    if (identity.address === undefined || !roles.includes("bus")) return;
    await assertPortFree(host, busPort, "HEARTH_BUS_PORT");
    await assertPortFree(host, routePort, "HEARTH_ROUTE_PORT");
  }

  /**
   * Stops the machines, then the services, and takes away what is on the host.
   * @throws HearthError when the worker cannot stop its machines; then everything goes on as before
   */
  async down(request: DownRequest = {}): Promise<void> {
    const before = this.#state;
    this.#going ??= this.#goDown(request).catch((error: unknown) => {
      this.#going = undefined;
      this.#state = before;
      throw error;
    });
    await this.#going;
  }

  /** Ends the services and leaves the machines running, for the next agent to find. */
  async release(): Promise<void> {
    this.#going ??= this.#end(false);
    await this.#going;
  }

  async #goDown({ timeout_ms = defaultStopMs, force = false }: DownRequest): Promise<void> {
    this.#state = "stopping";
    try {
      await this.#stopMachines(timeout_ms);
    } catch (error) {
      this.#logger.error({ err: error, force }, "machines were not stopped");
      if (!force) throw error;
    }
    await this.#end(true);
  }

  /** A worker that is just being started again is waited for; one that dies while it stops machines goes on. */
  async #stopMachines(timeoutMs: number): Promise<void> {
    const limit = AbortSignal.timeout(timeoutMs + teardownMs);
    for (;;) {
      const life = this.#services?.workerLife() ?? AbortSignal.abort();
      try {
        const bus: Bus | undefined = this.#hostBus?.bus;
        if (bus === undefined) throw new HearthError("unavailable", { message: "The bus does not answer." });
        const node = this.#config?.node_id ?? "";
        const options = { timeoutMs: timeoutMs + teardownMs, signal: AbortSignal.any([limit, life]) };
        await bus.request(node, "worker", "stop-all", { timeout_ms: timeoutMs }, options);
        return;
      } catch (thrown) {
        const error = HearthError.from(thrown);
        const mayCome = error.code === "unavailable" || (error.code === "cancelled" && life.aborted);
        if (!mayCome || limit.aborted) {
          throw new HearthError("unavailable", {
            message: "The worker did not stop its machines; see its log, or use force to leave them running.",
            cause: error,
          });
        }
        await delay(200);
      }
    }
  }

  async #end(removeAll: boolean): Promise<void> {
    this.#state = "stopping";
    this.#ending.abort();
    await this.#watching;
    await this.#pairs?.stop();
    await this.#mesh?.stop({ leave: !removeAll });
    await this.#hostBus?.stop();
    await this.#services?.stop();
    if (removeAll && this.#config !== undefined) {
      await this.#network.removeLocalAddress(resolverOf(this.#config));
      await this.#network.removeNode(this.#config.node_id);
    }
    this.#logger.info({ removed: removeAll }, "ended");
    // The last answer of the control socket is sent before it goes.
    setImmediate(() => void this.#leave(removeAll));
  }

  async #leave(removeAll: boolean): Promise<void> {
    await this.#control?.[Symbol.asyncDispose]();
    if (removeAll) await rm(this.#settings.runDir, { recursive: true, force: true });
    this.#lock?.[Symbol.dispose]();
    this.#resolveEnded();
  }

  async #watch(config: NodeConfig): Promise<void> {
    const { signal } = this.#ending;
    const roles = this.#identity === undefined ? [] : rolesOf(this.#identity);
    while (!signal.aborted) {
      this.#problems = await checkNode({ config, roles, bus: () => this.#hostBus?.bus });
      if (signal.aborted) break;
      this.#services?.shortenLogs();
      this.#mesh?.shortenLogs();
      await this.#tellWorker(config);
      const well = Object.keys(this.#problems).every((name) => name === frontDoor);
      if (this.#state !== "stopping") this.#enter(well);
      await delay(this.#state === "starting" ? startingCheckMs : checkMs, undefined, { signal }).catch(
        () => undefined,
      );
    }
  }

  /** The worker speaks for the node; one that does not answer has nothing to say for it either. */
  async #tellWorker(config: NodeConfig): Promise<void> {
    const services = servicesHealth(this.#services?.status() ?? [], this.#problems);
    const health = { ...services, warnings: [...services.warnings, ...(this.#mesh?.warnings() ?? [])] };
    const options = { timeoutMs: tellLimitMs, signal: this.#ending.signal };
    await this.#hostBus?.bus
      ?.request(config.node_id, "worker", "service-health", health, options)
      .catch(() => undefined);
  }

  #enter(well: boolean): void {
    const next = well ? "ready" : this.#state === "starting" ? "starting" : "degraded";
    if (next === this.#state) return;
    const fields = {
      state: next,
      problems: Object.values(this.#problems),
      ms: Date.now() - this.#startedAtMs,
    };
    this.#state = next;
    if (well) this.#logger.info(fields, "state");
    else this.#logger.warn(fields, "state");
  }
}

const firewallFacts = (config: NodeConfig) => ({
  node: config.node_id,
  prefix: parseClusterPrefix(config.prefix),
  host: config.host_number,
  hostServices: (["udp", "tcp"] as const).map((protocol) => ({
    ...{ address: resolverOf(config), protocol, port: dnsPort },
  })),
});

/** The host has it for itself, on its loopback, from before its services start until it is nothing any more. */
const resolverOf = ({ prefix }: NodeConfig): string => resolverAddress(parseClusterPrefix(prefix));
