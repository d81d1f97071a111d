/**
 * Whether writes through this host's server of the bus reach whoever leads the state, and whether their answers come
 * back. After faults of the network a server may lead others and be led, answer what it knows itself, and yet lose the
 * answers to all writes of its clients, old and new, for as long as it runs (seen with nats-server 2.9.10 after a host
 * was heard by nobody for half a minute). Nothing else tells of it, so it is tried: by a write that is refused.
 */
import { type Bus, connectBus, type StateHealth, takesWrites } from "@hearth/cluster";
import { factKeys } from "@hearth/machine";
import type { HostBusDeps } from "./host-bus.ts";
import { keyPaths } from "./host-keys.ts";

export interface BusWritesDeps extends Pick<HostBusDeps, "settings" | "identity" | "logger"> {
  /** This host's server, and no other. */
  readonly server: string;
}

const tryEveryMs = 4_000;
const tryLimitMs = 3_000;
const silentLimitMs = 15_000;
/** A server that has just started may have to hear of everything first. */
const betweenRestartsMs = 60_000;

export interface WritesSituation {
  readonly nodeId: string;
  /** As the state's keeper hears it through the same server; undefined when it hears nothing. */
  readonly health: StateHealth | undefined;
  /** For how long no write was answered. */
  readonly silentMs: number;
  readonly sinceRestartMs: number;
}

/** Pure. Not while there is no leader, nor when the others could not go on without this server. */
export function mustRestart({ nodeId, health, silentMs, sinceRestartMs }: WritesSituation): boolean {
  if (health?.leader === undefined || health.leader === nodeId) return false;
  const majority = Math.floor(health.copies / 2) + 1;
  if (health.current - 1 < majority) return false;
  return silentMs >= silentLimitMs && sinceRestartMs >= betweenRestartsMs;
}

export class BusWrites {
  readonly #deps: BusWritesDeps;
  #bus: Bus | undefined;
  #answeredMs = performance.now();
  #restartedMs = Number.NEGATIVE_INFINITY;
  #nextMs = 0;

  constructor(deps: BusWritesDeps) {
    this.#deps = deps;
  }

  /** Whether this host's server is to start again. */
  async look(health: StateHealth | undefined): Promise<boolean> {
    const nowMs = performance.now();
    if (nowMs < this.#nextMs) return false;
    this.#nextMs = nowMs + tryEveryMs;
    const nodeId = this.#deps.identity.node_id;
    // Without a leader nobody answers anybody, and that is no fault of this server.
    if (health?.leader === undefined || (await this.#isAnswered())) {
      this.#answeredMs = performance.now();
      return false;
    }
    const [silentMs, sinceRestartMs] = [nowMs - this.#answeredMs, nowMs - this.#restartedMs];
    if (!mustRestart({ nodeId, health, silentMs, sinceRestartMs })) return false;
    this.#deps.logger.error(
      { leader: health.leader, silent_ms: Math.round(silentMs) },
      "writes through this host's server of the bus are not answered, though the state has a leader: it starts again",
    );
    this.#restartedMs = nowMs;
    this.#answeredMs = nowMs;
    return true;
  }

  async stop(): Promise<void> {
    const bus = this.#bus;
    this.#bus = undefined;
    await bus?.close();
  }

  async #isAnswered(): Promise<boolean> {
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
}
