/**
 * Carries out what `planBusChange` says, and takes servers out of the cluster that are none of the bus any more. Looks
 * at what is there and does the next step; what fails is tried again by the next look.
 */
import {
  type Bus,
  connectBus,
  connectedServers,
  FactStore,
  handOver,
  type Replica,
  removeServer,
  serverGroup,
  serverId,
  stateHealth,
} from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { type BusFact, factKeys, factPrefixes, type NodeKeyFact, type NodePolicyFact } from "@hearth/machine";
import { planBusChange } from "./bus-change.ts";
import type { HostBusDeps } from "./host-bus.ts";
import { keyPaths } from "./host-keys.ts";
import { newRouteSecret, readNextSecret, readRouteSecret, sealFor } from "./route-secret.ts";

export interface BusChangerDeps extends Pick<HostBusDeps, "settings" | "identity" | "keys" | "logger"> {
  readonly replica: Replica;
  readonly ownServer: string;
}

const writeLimitMs = 5_000;

export class BusChanger {
  readonly #deps: BusChangerDeps;
  #operator: Bus | undefined;
  #problem: string | undefined;

  constructor(deps: BusChangerDeps) {
    this.#deps = deps;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  /**
   * @returns whether this host's server has to start again, as it is connected with one that is none of the bus
   * @throws HearthError when a step did not succeed
   */
  async tend(keeper: Bus): Promise<{ readonly startAgain: boolean }> {
    const { replica, identity, settings } = this.#deps;
    const held = replica.get(factKeys.bus());
    if (held === undefined) return { startAgain: false };
    const fact = held.value as BusFact;
    const change = planBusChange({
      nodeId: identity.node_id,
      nodes: replica.list(factPrefixes.nodeKey).map(({ value }) => value as NodeKeyFact),
      removed: removedNodes(replica),
      fact,
      nextNumber: readNextSecret(settings.dataDir)?.number,
    });
    this.#problem = change.step === "none" ? change.problem : undefined;
    if (change.step === "none") return { startAgain: await this.#expel(keeper, fact) };
    const next = this.#follow(fact, change);
    if (next !== undefined) await this.#write(keeper, next, held.revision);
    return { startAgain: false };
  }

  /** Of a host that was removed: lets the others lead. @returns whether they go on without this server */
  async leave(keeper: Bus): Promise<boolean> {
    const name = this.#deps.identity.node_id;
    const health = await stateHealth(keeper);
    if (health === undefined || health.current < health.copies) return false;
    const operator = await this.#login();
    await handOver(keeper, operator, name);
    const [group, now] = [await serverGroup(operator), await stateHealth(keeper)];
    return group?.leader !== undefined && group.leader !== name && now?.leader !== name;
  }

  async handOver(keeper: Bus): Promise<void> {
    await handOver(keeper, await this.#login(), this.#deps.identity.node_id);
  }

  async stop(): Promise<void> {
    await this.#operator?.close();
    this.#operator = undefined;
  }

  #follow(
    fact: BusFact,
    change: Exclude<ReturnType<typeof planBusChange>, { step: "none" }>,
  ): BusFact | undefined {
    const { settings, keys, identity, logger } = this.#deps;
    const holder = { dataDir: settings.dataDir, keys };
    const { next, ...rest } = fact;
    switch (change.step) {
      case "grow": {
        const secret = readRouteSecret(settings.dataDir);
        if (secret?.number !== (fact.secret_number ?? 1)) return undefined;
        logger.info({ members: idsOf(change.members) }, "a host becomes one of the bus");
        return { ...rest, ...sealFor(holder, secret, change.members) };
      }
      case "offer": {
        const number = Math.max(fact.secret_number ?? 1, next?.secret_number ?? 0) + 1;
        logger.info({ members: idsOf(change.members), number }, "a host of the bus is gone: a new secret");
        return { ...rest, next: { ...sealFor(holder, newRouteSecret(number), change.members), ready: [] } };
      }
      case "say_ready":
        return next && { ...rest, next: { ...next, ready: [...next.ready, identity.node_id] } };
      case "commit": {
        if (next === undefined) return undefined;
        const { ready: _ready, ...sealed } = next;
        logger.info({ members: next.members, number: next.secret_number }, "the new secret counts");
        return { ...rest, ...sealed };
      }
    }
  }

  /** Whoever still takes part and is not of the bus. Asks the stream, as its own copy of the fact may be old. */
  async #expel(keeper: Bus, held: BusFact): Promise<boolean> {
    const { identity, replica, logger } = this.#deps;
    const removed = removedNodes(replica);
    const isSettled = held.state === "formed" && held.next === undefined;
    if (!isSettled || held.members.some((id) => removed.has(id))) return false;
    const operator = await this.#login();
    const leads = held.members[0] === identity.node_id;
    const group = leads ? await serverGroup(operator) : undefined;
    const connected = await connectedServers(operator);
    const isForeign = ({ members }: BusFact) => ({
      ids: (group?.ids ?? []).filter((id) => !members.map(serverId).includes(id)),
      names: connected.filter((name) => !members.includes(name)),
    });
    const seen = isForeign(held);
    if (seen.ids.length === 0 && seen.names.length === 0) return false;
    const now = (await this.#facts(keeper, held).read(factKeys.bus()))?.value as BusFact | undefined;
    if (now === undefined || now.state !== "formed" || now.next !== undefined) return false;
    const { ids, names } = isForeign(now);
    for (const id of ids) {
      await removeServer(operator, id);
      logger.warn({ id }, "a server was taken out of the cluster");
    }
    if (names.length > 0) logger.warn({ names }, "connected with servers that are none of the bus");
    return names.length > 0;
  }

  #facts(keeper: Bus, { members }: BusFact): FactStore {
    return new FactStore({ bus: keeper, replicas: members.length });
  }

  async #login(): Promise<Bus> {
    const { settings, ownServer } = this.#deps;
    const seedPath = keyPaths(settings.dataDir).operator;
    this.#operator ??= await connectBus({
      ...{ servers: ownServer, seedPath, identity: "operator", name: "operator", reconnectWaitMs: 50 },
    });
    return this.#operator;
  }

  /** Somebody else may have written meanwhile: then the next look decides by that. */
  async #write(keeper: Bus, value: BusFact, revision: number): Promise<void> {
    const key = factKeys.bus();
    try {
      const written = await this.#facts(keeper, value).compareAndSet(key, value, revision);
      await this.#deps.replica.waitForRevision(key, written, { timeoutMs: writeLimitMs });
    } catch (thrown) {
      if (HearthError.from(thrown).code !== "conflict") throw thrown;
    }
  }
}

export function removedNodes(replica: Pick<Replica, "list">): ReadonlySet<string> {
  const policies = replica.list(factPrefixes.nodePolicy).map(({ value }) => value as NodePolicyFact);
  return new Set(policies.filter(({ removed }) => removed !== undefined).map(({ node_id }) => node_id));
}

const idsOf = (nodes: readonly NodeKeyFact[]): string => nodes.map(({ node_id }) => node_id).join();
