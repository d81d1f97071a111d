/**
 * The bus as this host serves it: which server it runs, and who may log in, follow from facts, of which the agent has a
 * copy of its own on disk. So a server whose store is gone comes up with its users, and a change of the facts is a
 * reload. Woken by changes and by a timer; takes no input; the next turn is the retry.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Bus,
  connectBus,
  type NatsServerConfig,
  type NatsVersion,
  natsCan,
  Replica,
  renderNatsConfig,
} from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { type BusFact, factKeys, factPrefixes, type NodeKeyFact } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { BusStatus } from "./agent-status.ts";
import { BusChanger, removedNodes } from "./bus-changer.ts";
import { BusExclusion, removedProblem } from "./bus-exclusion.ts";
import { BusHearing, stateAsToldBy } from "./bus-hearing.ts";
import { type BusPlan, planBus } from "./bus-plan.ts";
import { BusSecrets } from "./bus-secrets.ts";
import { BusWrites, OwnServerWrites } from "./bus-writes.ts";
import { type HostKeys, keyPaths } from "./host-keys.ts";
import type { NodeIdentity } from "./node-identity.ts";
import { readRouteSecret } from "./route-secret.ts";
import type { ServiceSet } from "./service-set.ts";
import type { AgentSettings } from "./settings.ts";
import { StateKeeper } from "./state-keeper.ts";

export interface HostBusDeps {
  readonly settings: AgentSettings;
  readonly identity: NodeIdentity;
  readonly keys: HostKeys;
  /** Of this host's own server. */
  readonly port: number;
  /** Of the program that this host's own server would be. */
  readonly natsVersion: NatsVersion | undefined;
  readonly services: () => Pick<ServiceSet, "startBus" | "stopBus" | "reloadBus">;
  readonly logger: Logger;
}

const turnMs = 2_000;
const madeLimitMs = 2_000;
/** So long a member is without a leader before it is asked whether something is wrong with itself. */
const lostLimitMs = 12_000;

export class HostBus implements AsyncDisposable {
  readonly #deps: HostBusDeps;
  readonly #replica: Replica;
  readonly #keeper: StateKeeper;
  readonly #stopping = new AbortController();
  readonly #connected = Promise.withResolvers<Bus>();
  #bus: Bus | undefined;
  #wake: () => void = () => undefined;
  readonly #changer: BusChanger;
  readonly #exclusion: BusExclusion;
  readonly #secrets: BusSecrets;
  readonly #ownWrites: OwnServerWrites;
  readonly #writes: BusWrites;
  readonly #hearing: BusHearing;
  #rendered = "";
  #secret: string | undefined;
  #reloadedSecret = false;
  #hasServer = false;
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
    this.#changer = new BusChanger({ ...deps, replica: this.#replica, cluster: () => this.config().cluster });
    this.#exclusion = new BusExclusion(deps);
    this.#ownWrites = new OwnServerWrites({ ...deps, server: this.#ownServer });
    const judge = { nodeId: deps.identity.node_id, nowMs: () => performance.now(), logger };
    const isAnswered = () => this.#ownWrites.areAnswered();
    this.#writes = new BusWrites({ ...judge, version: deps.natsVersion, isAnswered });
    this.#hearing = new BusHearing({ ...judge, ask: stateAsToldBy(deps) });
    this.#secrets = new BusSecrets({ ...deps, nodes: () => this.#nodes() });
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
      isRemoved: this.#isRemoved,
    });
  }

  config(): NatsServerConfig {
    const { settings, identity, keys, port, natsVersion } = this.#deps;
    const { server, users, routes } = this.plan();
    const host = identity.address ?? settings.apiHost;
    const secret = readRouteSecret(settings.dataDir);
    const base = {
      dir: join(settings.dataDir, "nats"),
      name: identity.node_id,
      host,
      port,
      syncsAlways: natsCan("canSyncAlways", natsVersion),
      users,
      keepers: [keys.keeper],
    };
    if (server !== "member" || secret === undefined) return base;
    const cluster = { ...this.#secrets.cluster(secret), host, port: settings.routePort, routes };
    return { ...base, store: "cluster", cluster };
  }

  start(): void {
    const { logger } = this.#deps;
    this.#replica.watch(factPrefixes.nodeKey, () => this.#wake());
    this.#replica.watch(factPrefixes.bus, () => this.#wake());
    this.#replica.watch(factPrefixes.nodePolicy, () => this.#wake());
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
    const { natsVersion } = this.#deps;
    return {
      server,
      servers,
      members: this.#fact()?.members ?? [],
      ...(server === "none" || natsVersion === undefined
        ? {}
        : { server_version: natsVersion, syncs_always: natsCan("canSyncAlways", natsVersion) }),
      ...(health === undefined ? {} : { copies: health.copies, current_copies: health.current }),
    };
  }

  /** Sentences about what does not work now. */
  problems(): string[] {
    if (this.#isRemoved) return [removedProblem(this.#deps.settings.dataDir)];
    return [this.#problem, this.#keeper.problem, this.#changer.problem, this.#exclusion.problem].filter(
      (problem) => problem !== undefined,
    );
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#turns;
    await this.#changer.closeDoor();
    await this.#ownWrites.stop();
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
    const removed = removedNodes(this.#replica);
    return this.#replica
      .list(factPrefixes.nodeKey)
      .map(({ value }) => value as NodeKeyFact)
      .filter(({ node_id }) => !removed.has(node_id));
  }

  get #isRemoved(): boolean {
    return removedNodes(this.#replica).has(this.#deps.identity.node_id);
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
    if (this.#isRemoved) return await this.#leave();
    if (server === "none") return;
    if (server === "member" && (await this.#isExcluded())) return await this.#endServer();
    const fact = this.#fact();
    if (fact !== undefined) await this.#secrets.take(fact);
    await this.#bringUp();
    try {
      await this.#keeper.tend(signal);
    } catch (error) {
      const look = { servers: this.#otherServers, silentMs: this.#keeper.silentMs };
      if (server === "member" && !signal.aborted && (await this.#hearing.look(look)))
        await this.#startAgain();
      throw error;
    }
    const { bus } = this.#keeper;
    if (server !== "member" || bus === undefined || signal.aborted) return;
    await this.#changer.tend(bus);
    await this.#startLast(bus);
    const remedy = await this.#writes.look({
      health: this.#keeper.health,
      servers: `${bus.connections} ${bus.serverChanges}`,
    });
    if (remedy === "reload") return this.#reload();
    if (remedy === "restart") await this.#startAgain();
  }

  async #startAgain(): Promise<void> {
    await this.#endServer();
    await this.#bringUp();
  }

  #reload(): void {
    this.#deps.services().reloadBus();
    this.#writes.noteReload();
  }

  /** The one that read the new secret starts again when the others have, and lead: then no connection is older. */
  async #startLast(bus: Bus): Promise<void> {
    const fact = this.#fact();
    const secret = readRouteSecret(this.#deps.settings.dataDir);
    if (!this.#reloadedSecret || fact === undefined || fact.next !== undefined || secret === undefined)
      return;
    if ((await this.#secrets.whoTakes(secret, fact.members)).some((isTaken) => isTaken !== true)) return;
    await this.#keeper.look();
    const { health } = this.#keeper;
    if (health === undefined || health.current < fact.members.length) return;
    if (health.leader === this.#deps.identity.node_id) return await this.#changer.handOver(bus);
    this.#reloadedSecret = false;
    await this.#startAgain();
  }

  /**
   * With another secret a server starts again, as one that reads its configuration again may go on with connections that
   * it began, and has been seen to end without any (2.9.10). The one that the state is written through reads it again
   * first: while the others start it goes on leading them, and there is no election.
   */
  async #bringUp(): Promise<void> {
    const services = this.#deps.services();
    const config = this.config();
    const text = renderNatsConfig(config);
    const secret = config.cluster?.secret;
    const isOther = this.#secret !== undefined && this.#secret !== secret;
    const leads = this.#keeper.health?.leader === this.#deps.identity.node_id;
    const isLost = this.#reloadedSecret && this.#keeper.silentMs > lostLimitMs;
    if (isLost || (isOther && !leads)) await this.#endServer();
    if (isOther) this.#reloadedSecret = leads;
    if (isLost) this.#reloadedSecret = false;
    services.startBus();
    if (!this.#hasServer) this.#writes.noteStart();
    else if (this.#rendered !== text) this.#reload();
    this.#hasServer = true;
    this.#rendered = text;
    this.#secret = secret;
  }

  async #endServer(): Promise<void> {
    await this.#changer.closeDoor();
    if (this.#hasServer) await this.#deps.services().stopBus();
    this.#hasServer = false;
  }

  /** When the others go on without this server, or it is of no use to anybody any more. */
  async #leave(): Promise<void> {
    const { bus } = this.#keeper;
    if (!this.#hasServer) return;
    const mayGo = bus === undefined || (await this.#changer.leave(bus).catch(() => false));
    if (!mayGo && this.#keeper.silentMs < lostLimitMs && !(await this.#isCutOff())) {
      await this.#keeper.look();
      return;
    }
    this.#deps.logger.warn({}, "this host was removed from the region: its bus server is stopped");
    await this.#endServer();
  }

  /** The others go on with another secret: whoever is with this server waits for nothing. */
  async #isCutOff(): Promise<boolean> {
    const secret = readRouteSecret(this.#deps.settings.dataDir);
    const { members } = this.#fact() ?? { members: [] };
    return secret !== undefined && (await this.#secrets.whoTakes(secret, members)).includes(false);
  }

  async #isExcluded(): Promise<boolean> {
    const isSilent = this.#keeper.silentMs > lostLimitMs;
    return await this.#exclusion.look({ servers: this.#otherServers, isSilent });
  }

  get #otherServers(): string[] {
    return this.plan().servers.filter((url) => url !== this.#ownServer);
  }

  #refused(error: HearthError): void {
    if (error.code === "bus_unauthorized") this.#problem = error.message;
    this.#deps.logger.error({ err: error }, "refused by the bus");
  }
}
