/**
 * Whether writes through this host's server of the bus reach whoever leads the state, and whether their answers come
 * back; and what is done when they do not.
 *
 * A server that reads its configuration again, as each does when a host comes or goes, takes answers at a new place, and
 * tells it to those servers that it is connected with. Before 2.9.17 it does not tell it to one that connects later, so
 * when that one leads the state, what is written through this server is written and never answered (docs/rfd/0006). A
 * server that reads its configuration once more takes answers at yet another place and tells everybody. So it is made to
 * whenever there may be somebody who has not heard, and when a write is not answered. As a server may have other reasons
 * to answer no write, and nothing else tells of it, each agent tries: by a write that is refused.
 */
import {
  type Bus,
  connectBus,
  type NatsVersion,
  natsCan,
  type StateHealth,
  takesWrites,
} from "@hearth/cluster";
import { factKeys } from "@hearth/machine";
import { type BusJudge, betweenRestartsMs, goesOnWithout, silentLimitMs } from "./bus-restart.ts";
import type { HostBusDeps } from "./host-bus.ts";
import { keyPaths } from "./host-keys.ts";

export interface BusWritesDeps extends BusJudge {
  /** Of this host's server. */
  readonly version: NatsVersion | undefined;
  /** Tries one write. */
  readonly isAnswered: () => Promise<boolean>;
}

/** The server reads its configuration again, or starts again. */
export type BusRemedy = "reload" | "restart";

/** What is known of the servers, as heard by who keeps the state. */
export interface BusView {
  /** Of the state; undefined when nothing is heard of it. */
  readonly health: StateHealth | undefined;
  /** Is another one whenever servers have come or gone. */
  readonly servers: string;
}

const tryLimitMs = 1_500;
const betweenReloadsMs = 4_000;

/** Judges what this host's server needs, at each look. */
export class BusWrites {
  readonly #deps: BusWritesDeps;
  #answeredMs: number;
  #reloadedMs = Number.NEGATIVE_INFINITY;
  #restartedMs = Number.NEGATIVE_INFINITY;
  /** Whether the server has read its configuration again since it started. */
  #hasReloaded = false;
  #mayBeUnheard = false;
  #seen = "";

  constructor(deps: BusWritesDeps) {
    this.#deps = deps;
    this.#answeredMs = deps.nowMs();
  }

  noteStart(): void {
    this.#hasReloaded = false;
    this.#mayBeUnheard = false;
  }

  noteReload(): void {
    this.#hasReloaded = true;
    this.#mayBeUnheard = false;
    this.#reloadedMs = this.#deps.nowMs();
  }

  async look(view: BusView): Promise<BusRemedy | undefined> {
    const { health, servers } = view;
    const isTold = natsCan("tellsLateServers", this.#deps.version);
    const seen = `${health?.leader} ${servers}`;
    if (health?.leader !== undefined && this.#seen !== seen) {
      this.#mayBeUnheard = true;
      this.#seen = seen;
    }
    // Without a leader nobody answers anybody, and that is no fault of this server.
    const isWell = health?.leader === undefined || (await this.#deps.isAnswered());
    const now = this.#deps.nowMs();
    if (isWell) this.#answeredMs = now;
    if (!isWell && this.#isToRestart(health, now)) return "restart";
    const isDue = !isTold && this.#hasReloaded && now - this.#reloadedMs >= betweenReloadsMs;
    if (!isDue || health?.leader === undefined || (isWell && !this.#mayBeUnheard)) return undefined;
    if (!isWell)
      this.#deps.logger.warn(
        { leader: health.leader },
        "a write through this host's server of the bus was not answered: it tells the others again where it takes answers",
      );
    return "reload";
  }

  #isToRestart(health: StateHealth, now: number): boolean {
    const { nodeId, logger } = this.#deps;
    const silentMs = now - this.#answeredMs;
    if (silentMs < silentLimitMs || now - this.#restartedMs < betweenRestartsMs) return false;
    if (!goesOnWithout(nodeId, health)) return false;
    logger.error(
      { leader: health.leader, silent_ms: Math.round(silentMs) },
      "writes through this host's server of the bus are not answered, though the state has a leader: it starts again",
    );
    this.#restartedMs = now;
    this.#answeredMs = now;
    return true;
  }
}

export interface OwnServerWritesDeps extends Pick<HostBusDeps, "settings" | "identity"> {
  /** This host's server, and no other. */
  readonly server: string;
}

/** As the node's services write, over a connection of its own. */
export class OwnServerWrites {
  readonly #deps: OwnServerWritesDeps;
  #bus: Bus | undefined;

  constructor(deps: OwnServerWritesDeps) {
    this.#deps = deps;
  }

  async areAnswered(): Promise<boolean> {
    const { settings, identity, server } = this.#deps;
    try {
      this.#bus ??= await connectBus({
        ...{ servers: server, seedPath: keyPaths(settings.dataDir).node, identity: identity.node_id },
        ...{ name: "host-agent-writes", connectTimeoutMs: tryLimitMs, reconnectWaitMs: 250 },
        staysWithServers: true,
      });
      return await takesWrites(this.#bus, factKeys.node(identity.node_id), tryLimitMs);
    } catch {
      return false;
    }
  }

  async stop(): Promise<void> {
    const bus = this.#bus;
    this.#bus = undefined;
    await bus?.close();
  }
}
