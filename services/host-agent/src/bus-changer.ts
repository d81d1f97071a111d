/**
 * Carries out what `planBusChange` says, and takes servers out of the cluster that are none of the bus any more. Looks
 * at what is there and does the next step; what fails is tried again by the next look.
 */
import { join } from "node:path";
import {
  type Bus,
  FactStore,
  handOver,
  type NatsCluster,
  type OperatorDoor,
  openOperatorDoor,
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
import { freePort } from "./host-prepare.ts";
import { newRouteSecret, readNextSecret, readRouteSecret, sealFor } from "./route-secret.ts";

export interface BusChangerDeps extends Pick<HostBusDeps, "settings" | "identity" | "keys" | "logger"> {
  readonly replica: Replica;
  /** That this host's server is one of; undefined while it is none. */
  readonly cluster: () => NatsCluster | undefined;
}

const writeLimitMs = 5_000;
/** After a change, so many looks in a row find nobody that is none of the bus before it is not looked any more. */
const cleanLooks = 3;

export class BusChanger {
  readonly #deps: BusChangerDeps;
  #door: { readonly operator: OperatorDoor; readonly secret: string } | undefined;
  /** The change that was looked after, and how many looks in a row were clean. */
  #looked = { change: "", clean: 0 };
  #problem: string | undefined;

  constructor(deps: BusChangerDeps) {
    this.#deps = deps;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  /** @throws HearthError when a step did not succeed */
  async tend(keeper: Bus): Promise<void> {
    const { replica, identity, settings } = this.#deps;
    const held = replica.get(factKeys.bus());
    if (held === undefined) return;
    const fact = held.value as BusFact;
    const change = planBusChange({
      nodeId: identity.node_id,
      nodes: replica.list(factPrefixes.nodeKey).map(({ value }) => value as NodeKeyFact),
      removed: removedNodes(replica),
      fact,
      nextNumber: readNextSecret(settings.dataDir)?.number,
    });
    this.#problem = change.step === "none" ? change.problem : undefined;
    if (change.step === "none") return await this.#expel(keeper, fact);
    const next = this.#follow(fact, change);
    if (next !== undefined) await this.#write(keeper, next, held.revision);
  }

  /** Of a host that was removed: lets the others lead. @returns whether they go on without this server */
  async leave(keeper: Bus): Promise<boolean> {
    const name = this.#deps.identity.node_id;
    const health = await stateHealth(keeper);
    if (health === undefined || health.current < health.copies) return false;
    const operator = await this.#open();
    await handOver(keeper, operator, name);
    const [group, now] = [await serverGroup(operator), await stateHealth(keeper)];
    return group?.leader !== undefined && group.leader !== name && now?.leader !== name;
  }

  async handOver(keeper: Bus): Promise<void> {
    await handOver(keeper, await this.#open(), this.#deps.identity.node_id);
  }

  async closeDoor(): Promise<void> {
    const door = this.#door;
    this.#door = undefined;
    await door?.operator[Symbol.asyncDispose]();
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

  /**
   * Whoever still decides and is not of the bus. The first of the members looks, and after a change of the secret only:
   * whoever does not have it cannot begin to take part. Asks the stream, as its own copy of the fact may be old.
   */
  async #expel(keeper: Bus, held: BusFact): Promise<void> {
    const { identity, replica, logger } = this.#deps;
    const { members, secret_number = 1, next, state } = held;
    const removed = removedNodes(replica);
    const isSettled = state === "formed" && next === undefined && !members.some((id) => removed.has(id));
    if (!isSettled || secret_number === 1 || members[0] !== identity.node_id) return;
    const change = `${secret_number}:${members.join()}`;
    if (this.#looked.change !== change) this.#looked = { change, clean: 0 };
    if (this.#looked.clean === cleanLooks) return;

    const operator = await this.#open();
    const group = await serverGroup(operator);
    const foreignTo = (fact: BusFact) => {
      const ids = fact.members.map(serverId);
      return (group?.ids ?? []).filter((id) => !ids.includes(id));
    };
    if (foreignTo(held).length === 0) {
      this.#looked.clean = group === undefined ? 0 : this.#looked.clean + 1;
      if (this.#looked.clean === cleanLooks) await this.closeDoor();
      return;
    }
    this.#looked.clean = 0;
    const now = (await this.#facts(keeper, held).read(factKeys.bus()))?.value as BusFact | undefined;
    if (now === undefined || now.state !== "formed" || now.next !== undefined) return;
    for (const id of foreignTo(now)) {
      await removeServer(operator, id);
      logger.warn({ id }, "a server was taken out of the cluster");
    }
  }

  #facts(keeper: Bus, { members }: BusFact): FactStore {
    return new FactStore({ bus: keeper, replicas: members.length });
  }

  async #open(): Promise<Bus> {
    const { settings, identity, keys, cluster } = this.#deps;
    const now = cluster();
    if (now === undefined)
      throw new HearthError("unavailable", { message: "This host's server is in no cluster." });
    if (this.#door?.secret !== now.secret) await this.closeDoor();
    this.#door ??= {
      secret: now.secret,
      operator: await openOperatorDoor({
        ...{ name: identity.node_id, cluster: now, port: await freePort(), key: keys.operator },
        dir: join(settings.dataDir, "nats", "operator"),
        seedPath: keyPaths(settings.dataDir).operator,
        // By it an agent that starts finds, and ends, what one that was killed has left.
        environment: { HEARTH_DATA_DIR: settings.dataDir },
      }),
    };
    return this.#door.operator.bus;
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
