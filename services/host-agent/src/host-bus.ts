/**
 * The bus as this host serves it: which server it runs, and who may log in, follow from facts, of which the agent has a
 * copy of its own on disk. So a server whose store is gone comes up with its users, and a change of the facts is a
 * reload. Woken by changes and by a timer; takes no input; the next turn is the retry.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Bus, connectBus, type NatsServerConfig, Replica, renderNatsConfig } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { type BusFact, factKeys, factPrefixes, type NodeKeyFact } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import { type BusPlan, planBus } from "./bus-plan.ts";
import { type HostKeys, keepRouteSecret, keyPaths, readRouteSecret } from "./host-keys.ts";
import type { NodeIdentity } from "./node-identity.ts";
import { unsealSecret } from "./route-secret.ts";
import type { ServiceSet } from "./service-set.ts";
import type { AgentSettings } from "./settings.ts";
import { StateKeeper } from "./state-keeper.ts";

export interface HostBusDeps {
  readonly settings: AgentSettings;
  readonly identity: NodeIdentity;
  readonly keys: HostKeys;
  /** Of this host's own server. */
  readonly port: number;
  readonly services: () => Pick<ServiceSet, "startBus" | "stopBus" | "reloadBus">;
  readonly logger: Logger;
}

export interface BusStatus {
  readonly server: BusPlan["server"];
  /** What the services of this host were given. */
  readonly servers: readonly string[];
  /** Hosts whose servers are the bus, as far as this host has heard. */
  readonly members: readonly string[];
  /** Of the state; known on a host that runs a server. */
  readonly copies?: number;
  readonly current_copies?: number;
}

const turnMs = 2_000;
const madeLimitMs = 2_000;

export class HostBus implements AsyncDisposable {
  readonly #deps: HostBusDeps;
  readonly #replica: Replica;
  readonly #keeper: StateKeeper;
  readonly #stopping = new AbortController();
  readonly #connected = Promise.withResolvers<Bus>();
  #bus: Bus | undefined;
  #wake: () => void = () => undefined;
  #rendered = "";
  #turns: Promise<void> | undefined;
  #problem: string | undefined;
  #settle: () => void = () => undefined;
  /** Resolves when a turn has done all that it wanted to do. */
  readonly settled: Promise<void> = new Promise((resolve) => {
    this.#settle = resolve;
  });

  constructor(deps: HostBusDeps) {
    this.#deps = deps;
    const { settings, logger } = deps;
    const directory = join(settings.dataDir, "host-agent");
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#replica = new Replica({
      bus: this.#connected.promise,
      path: join(directory, "replica.sqlite"),
      onError: (error) => logger.warn({ err: error }, "the feed of the cluster state broke; it starts again"),
      onStreamLoss: (loss) => logger.error(loss, "the stream had lost facts; who owns them puts them back"),
      onSetAside: ({ path, reason }) =>
        logger.error({ path, reason }, "the agent's copy of the state cannot be read; it is set aside"),
    });
    this.#keeper = new StateKeeper({
      ...deps,
      replica: this.#replica,
      ownServer: this.#ownServer,
      config: () => this.config(),
    });
  }

  /** What this host has in mind of the state, also while the bus is down. Open it before anything is asked. */
  open(): void {
    this.#connected.promise.catch(() => undefined);
    this.#replica.start();
  }

  /** The agent's copy of the state. */
  get replica(): Replica {
    return this.#replica;
  }

  /** Rejects when the agent ends before there was a connection. */
  get connected(): Promise<Bus> {
    return this.#connected.promise;
  }

  /** The connection of this node's agent, once there was one. */
  get bus(): Bus | undefined {
    return this.#bus;
  }

  plan(): BusPlan {
    const { identity, keys } = this.#deps;
    const isMoved = this.#keeper.isMoved;
    return planBus({
      identity,
      keys,
      nodes: this.#nodes(),
      bus: this.#fact(),
      ownServer: this.#ownServer,
      isMoved,
    });
  }

  config(): NatsServerConfig {
    const { settings, identity, keys, port } = this.#deps;
    const { server, users, routes } = this.plan();
    const host = identity.address ?? settings.apiHost;
    const secret = readRouteSecret(settings.dataDir);
    const base = {
      dir: join(settings.dataDir, "nats"),
      name: identity.node_id,
      host,
      port,
      users,
      keepers: [keys.keeper],
    };
    if (server !== "member" || secret === undefined) return base;
    const cluster = { name: `hearth-${identity.region}`, host, port: settings.routePort, routes, secret };
    return { ...base, store: "cluster", cluster };
  }

  start(): void {
    const { logger } = this.#deps;
    this.#replica.watch(factPrefixes.nodeKey, () => this.#wake());
    this.#replica.watch(factPrefixes.bus, () => this.#wake());
    this.#turns = this.#run();
    void this.#connect();
    logger.info({ ...this.status() }, "the bus");
  }

  /** Not before there is a state to follow, where that is for this host to make. */
  async #connect(): Promise<void> {
    const { settings, identity } = this.#deps;
    const { signal } = this.#stopping;
    const { server, servers } = this.plan();
    if (server !== "none")
      await Promise.race([this.#keeper.made, delay(madeLimitMs, undefined, { ref: false })]);
    await connectBus({
      servers,
      seedPath: keyPaths(settings.dataDir).node,
      identity: identity.node_id,
      name: "host-agent",
      retryUntil: signal,
      onRefused: (error) => this.#refused(error),
    }).then(
      (bus) => {
        this.#bus = bus;
        this.#problem = undefined;
        this.#connected.resolve(bus);
      },
      // Only when the agent ends before the bus came up.
      (error: unknown) => this.#connected.reject(error),
    );
  }

  status(): BusStatus {
    const { server, servers } = this.plan();
    const health = this.#keeper.health;
    return {
      server,
      servers,
      members: this.#fact()?.members ?? [],
      ...(health === undefined ? {} : { copies: health.copies, current_copies: health.current }),
    };
  }

  /** Sentences about what does not work now. */
  problems(): string[] {
    return [this.#problem, this.#keeper.problem].filter((problem) => problem !== undefined);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#turns;
    await this.#keeper.stop();
    this.#connected.reject(new HearthError("cancelled"));
    await this.#replica.stop();
    await this.#bus?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  get #ownServer(): string {
    const { settings, identity, port } = this.#deps;
    const host = identity.address ?? settings.apiHost;
    return `nats://${host.includes(":") ? `[${host}]` : host}:${port}`;
  }

  #nodes(): NodeKeyFact[] {
    return this.#replica.list(factPrefixes.nodeKey).map(({ value }) => value as NodeKeyFact);
  }

  #fact(): BusFact | undefined {
    return this.#replica.get(factKeys.bus())?.value as BusFact | undefined;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      // Made before looking, so that a change between the look and the wait is not lost.
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      try {
        await this.#turn(signal);
        this.#settle();
      } catch (error) {
        if (!signal.aborted)
          this.#deps.logger.warn({ err: error }, "the bus could not be brought to what it is to be");
      }
      await Promise.race([woken, delay(turnMs, undefined, { signal }).catch(() => undefined)]);
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { server } = this.plan();
    if (server === "none") return;
    this.#takeSecret();
    const services = this.#deps.services();
    const text = renderNatsConfig(this.config());
    services.startBus();
    if (this.#rendered !== "" && this.#rendered !== text) services.reloadBus();
    this.#rendered = text;
    await this.#keeper.tend(signal);
  }

  /** A member was sent the secret of the servers in a fact that it alone can read. */
  #takeSecret(): void {
    const { settings, identity } = this.#deps;
    const fact = this.#fact();
    if (fact === undefined || readRouteSecret(settings.dataDir) !== undefined) return;
    const secret = unsealSecret(settings.dataDir, fact, identity.node_id);
    if (secret !== undefined) keepRouteSecret(settings.dataDir, secret);
    else if (fact.members.includes(identity.node_id)) {
      throw new HearthError("bus_unauthorized", {
        message: "The secret of the bus servers is not sealed for this host's key; join the host again.",
      });
    }
  }

  #refused(error: HearthError): void {
    if (error.code === "bus_unauthorized") this.#problem = error.message;
    this.#deps.logger.error({ err: error }, "refused by the bus");
  }
}
