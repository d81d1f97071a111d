/**
 * Whether writes through this host's server of the bus reach whoever leads the state, and whether their answers come
 * back. After faults of the network a server may be led by another and answer what it knows itself, and yet lose the
 * answers to all writes of its clients, old and new, for as long as it runs (nats-server 2.9.10; docs/rfd/0006). Nothing
 * else tells of it, so it is tried: by a write that is refused.
 */
import { type Bus, connectBus, type StateHealth, takesWrites } from "@hearth/cluster";
import { factKeys } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { HostBusDeps } from "./host-bus.ts";
import { keyPaths } from "./host-keys.ts";

export interface BusWritesDeps {
  readonly nodeId: string;
  /** Tries one write. */
  readonly isAnswered: () => Promise<boolean>;
  /** Monotonic. */
  readonly nowMs: () => number;
  readonly logger: Logger;
}

const tryEveryMs = 4_000;
const tryLimitMs = 3_000;
const silentLimitMs = 15_000;
/** A server that has just started may have to hear of everything first. */
const betweenRestartsMs = 60_000;

/** Judges when this host's server is to start again. */
export class BusWrites {
  readonly #deps: BusWritesDeps;
  #answeredMs: number;
  #restartedMs = Number.NEGATIVE_INFINITY;
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(deps: BusWritesDeps) {
    this.#deps = deps;
    this.#answeredMs = deps.nowMs();
  }

  /** @param health of the state as it is heard through the same server; undefined when nothing is heard */
  async look(health: StateHealth | undefined): Promise<boolean> {
    const { nodeId, isAnswered, nowMs, logger } = this.#deps;
    if (nowMs() < this.#nextMs) return false;
    // Without a leader nobody answers anybody, and that is no fault of this server.
    const isWell = health?.leader === undefined || (await isAnswered());
    const now = nowMs();
    this.#nextMs = now + tryEveryMs;
    if (isWell) {
      this.#answeredMs = now;
      return false;
    }
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

/** Whether the others can lead and agree while this server is down. */
function goesOnWithout(nodeId: string, { leader, copies, current }: StateHealth): boolean {
  return leader !== nodeId && current - 1 >= Math.floor(copies / 2) + 1;
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
