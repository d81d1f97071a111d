/**
 * What a bus host's agent does for the state stream, with a key that no service has. The first host makes the stream,
 * says who it is itself, and carries the stream to the cluster when there are hosts enough for one; the others look.
 *
 * The move: the members bring up their servers, empty. Then the first host's server stops, so that nothing more is
 * acknowledged; its stream is taken as a snapshot from a server that nobody else can log in to; the mark on disk says
 * that it has moved; it starts as a member and gets the stream back. Before the mark a crash leaves the one server as
 * it was, after it the snapshot is put back by whoever starts next.
 */
import { existsSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import {
  type Bus,
  connectBus,
  FactStore,
  keepStateStream,
  NatsServer,
  type NatsServerConfig,
  type Replica,
  restoreState,
  type StateHealth,
  saveState,
  stateHealth,
} from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { type BusFact, factKeys, factPrefixes, hearthVersion, type NodeKeyFact } from "@hearth/machine";
import { removedNodes } from "./bus-changer.ts";
import { candidates, clusterSize } from "./bus-plan.ts";
import type { HostBusDeps } from "./host-bus.ts";
import { keyPaths } from "./host-keys.ts";
import { freePort } from "./host-prepare.ts";
import { rolesOf, writeWhole } from "./node-identity.ts";
import {
  ensureRouteSecret,
  keepRouteSecret,
  newRouteSecret,
  type RouteSecret,
  sealFor,
} from "./route-secret.ts";

export interface StateKeeperDeps extends HostBusDeps {
  readonly replica: Replica;
  readonly ownServer: string;
  /** Of the server as it is to be now. */
  readonly config: () => NatsServerConfig;
}

const identity = "keeper";
const writeLimitMs = 5_000;
const routeLimitMs = 2_000;
/** So long a state that is gone is left to the first host to make anew; then any member does. */
const standInMs = 60_000;

export class StateKeeper {
  readonly #deps: StateKeeperDeps;
  readonly #directory: string;
  readonly #stopping = new AbortController();
  #made: () => void = () => undefined;
  /** Resolves when the stream is there for the first time. */
  readonly made: Promise<void> = new Promise((resolve) => {
    this.#made = resolve;
  });
  #connecting: Promise<void> | undefined;
  #bus: Bus | undefined;
  #health: StateHealth | undefined;
  #seenMs = performance.now();
  #problem: string | undefined;

  constructor(deps: StateKeeperDeps) {
    this.#deps = deps;
    this.#directory = join(deps.settings.dataDir, "nats");
  }

  /** Whether the server of this host, the first, is one of a cluster for good. */
  get isMoved(): boolean {
    return existsSync(this.#markPath);
  }

  get health(): StateHealth | undefined {
    return this.#health;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  /** As the agent keeps the stream; undefined until this host's server has let it in. */
  get bus(): Bus | undefined {
    return this.#bus;
  }

  /** Since the stream was last heard of through this host's server. */
  get silentMs(): number {
    return performance.now() - this.#seenMs;
  }

  /** @throws HearthError when it could not do what is to be done; the next turn tries again */
  async tend(signal: AbortSignal): Promise<void> {
    const bus = this.#bus;
    if (bus === undefined) {
      this.#connecting ??= this.#connect();
      await Promise.race([this.#connecting, aborted(signal)]);
      if (this.#bus === undefined || signal.aborted) return;
      return this.tend(signal);
    }
    if (this.#deps.identity.joined === undefined) await this.#lead(bus);
    this.#health = await stateHealth(bus);
    const { state, members = [] } = this.#fact ?? {};
    if (this.#health !== undefined) this.#seenMs = performance.now();
    const isMissing = this.#health === undefined && this.silentMs > standInMs;
    const isShort = this.#health !== undefined && this.#health.copies < members.length;
    if (state === "formed" && (isMissing || isShort)) await keepStateStream(bus, members.length);
  }

  /** Only at the stream, and what is wrong with it is not this host's to mend. */
  async look(): Promise<void> {
    if (this.#bus === undefined) return;
    this.#health = await stateHealth(this.#bus).catch(() => undefined);
    if (this.#health !== undefined) this.#seenMs = performance.now();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#connecting;
    await this.#bus?.close();
  }

  async #connect(): Promise<void> {
    try {
      this.#bus = await this.#login(this.#deps.ownServer, this.#stopping.signal);
    } catch {
      // Only when the agent ends before its server came up.
    }
  }

  #login(servers: string, retryUntil: AbortSignal): Promise<Bus> {
    const seedPath = keyPaths(this.#deps.settings.dataDir).keeper;
    return connectBus({ servers, seedPath, identity, name: identity, retryUntil, reconnectWaitMs: 50 });
  }

  async #lead(bus: Bus): Promise<void> {
    const { isMoved } = this;
    const copies = isMoved ? (this.#fact?.members.length ?? clusterSize) : 1;
    if (isMoved && existsSync(`${this.#snapshotPath}.json`)) {
      if (await restoreState(bus, this.#snapshotPath, copies))
        this.#deps.logger.info("the state is in the cluster");
    }
    await keepStateStream(bus, copies);
    this.#made();
    const facts = new FactStore({ bus });
    await this.#introduce(facts);
    if (isMoved) await this.#settle(facts);
    else await this.#form(facts);
  }

  /** The first host was let in by nobody, so it says itself who it is. */
  async #introduce(facts: FactStore): Promise<void> {
    const { replica, identity: self } = this.#deps;
    const key = factKeys.nodeKey(self.node_id);
    const known = replica.get(key)?.value as NodeKeyFact | undefined;
    const fact = this.#ownFact(known?.joined_at_ms ?? Date.now());
    if (JSON.stringify(known) === JSON.stringify(fact)) return;
    await facts
      .compareAndSet(factKeys.hostNumber(self.host_number), { node_id: self.node_id }, 0)
      .catch((error: unknown) => {
        if (HearthError.from(error).code !== "conflict") throw error;
      });
    await this.#publish(facts, key, fact);
  }

  #ownFact(joined_at_ms: number): NodeKeyFact {
    const { settings, keys, port, identity: self } = this.#deps;
    const { address } = self;
    const host = address?.includes(":") ? `[${address}]` : address;
    const at = (number: number): string => `${host}:${number}`;
    return {
      node_id: self.node_id,
      host_number: self.host_number,
      roles: rolesOf(self),
      node_key: keys.node,
      api_key: keys.api,
      seal_key: keys.seal,
      ...(address === undefined
        ? {}
        : {
            bus: { client_url: `nats://${at(port)}`, route_url: at(settings.routePort) },
            api_url: `http://${at(settings.apiPort)}`,
          }),
      address: address ?? settings.apiHost,
      version: hearthVersion,
      joined_at_ms,
    };
  }

  /** Begins a cluster when there are hosts for it, and moves there when all of them answer. */
  async #form(facts: FactStore): Promise<void> {
    const { replica, identity: self, settings, keys, logger } = this.#deps;
    const removed = removedNodes(replica);
    const nodes = replica
      .list(factPrefixes.nodeKey)
      .map(({ value }) => value as NodeKeyFact)
      .filter(({ node_id }) => !removed.has(node_id));
    const members = candidates(self, nodes);
    this.#problem = undefined;
    if (members.length < clusterSize) return;
    const ids = members.map(({ node_id }) => node_id).join();
    if (this.#fact?.members.join() !== ids)
      await this.#publish(facts, factKeys.bus(), {
        state: "forming",
        ...sealFor({ dataDir: settings.dataDir, keys }, this.#formingSecret(members), members),
      });
    for (const { node_id, bus } of members)
      if (node_id !== self.node_id && !(await answers(bus?.route_url ?? ""))) {
        this.#problem = `The bus waits for the server of ${node_id} at ${bus?.route_url} before it becomes a cluster of ${clusterSize}.`;
        return;
      }
    logger.info({ members: ids }, "the state moves to a cluster");
    await this.#move();
  }

  /** Another one than a host has that was to be a member and is not to be one any more. */
  #formingSecret(members: readonly NodeKeyFact[]): RouteSecret {
    const { dataDir } = this.#deps.settings;
    const known = ensureRouteSecret(dataDir);
    const before = this.#fact?.members ?? [];
    if (before.every((id) => members.some(({ node_id }) => node_id === id))) return known;
    const secret = newRouteSecret(known.number + 1);
    keepRouteSecret(dataDir, secret);
    return secret;
  }

  async #move(): Promise<void> {
    const services = this.#deps.services();
    const config = this.#deps.config();
    await this.#bus?.close();
    this.#bus = undefined;
    this.#connecting = undefined;
    await services.stopBus();
    try {
      await using server = new NatsServer({
        ...config,
        host: "127.0.0.1",
        port: await freePort(),
        users: [],
      });
      await server.start();
      await using bus = await this.#login(server.url, AbortSignal.timeout(writeLimitMs));
      const saved = await saveState(bus, this.#snapshotPath);
      writeWhole(this.#markPath, JSON.stringify({ facts: saved, at_ms: Date.now() }), 0o600);
    } finally {
      services.startBus();
    }
  }

  /** The move is over when every member has all of it; then what it was made from can go. */
  async #settle(facts: FactStore): Promise<void> {
    const fact = this.#fact;
    if (fact?.state === "forming") await this.#publish(facts, factKeys.bus(), { ...fact, state: "formed" });
    if (this.#health?.current !== clusterSize) return;
    for (const path of [this.#snapshotPath, `${this.#snapshotPath}.json`, join(this.#directory, "jetstream")])
      rmSync(path, { recursive: true, force: true });
  }

  async #publish(facts: FactStore, key: string, value: unknown): Promise<void> {
    const revision = await facts.publish(key, value);
    await this.#deps.replica.waitForRevision(key, revision, { timeoutMs: writeLimitMs });
  }

  get #fact(): BusFact | undefined {
    return this.#deps.replica.get(factKeys.bus())?.value as BusFact | undefined;
  }

  get #markPath(): string {
    return join(this.#directory, "moved.json");
  }

  get #snapshotPath(): string {
    return join(this.#directory, "state.snapshot");
  }
}

/** Whether somebody listens at `host:port`. */
function answers(hostAndPort: string): Promise<boolean> {
  const { hostname, port } = new URL(`tcp://${hostAndPort}`);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) });
    const done = (found: boolean) => () => {
      socket.destroy();
      resolve(found);
    };
    socket.setTimeout(routeLimitMs, done(false)).once("connect", done(true)).once("error", done(false));
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
