/**
 * Whether this host's server of the bus has been left out by another one. While a server reads its configuration again it
 * has for some milliseconds two of each account, and what another server says then of where it listens goes to the one
 * that is thrown away; the two go on without it for as long as they are connected (docs/rfd/0006). So when nothing is
 * heard of the state through this host's server, the agent asks the others; and when those are well without it, it starts
 * again, and all say anew where they listen.
 */
import { connectBus, type StateHealth, stateHealth } from "@hearth/cluster";
import { type BusJudge, betweenRestartsMs, goesOnWithout, silentLimitMs } from "./bus-restart.ts";
import type { HostBusDeps } from "./host-bus.ts";
import { keyPaths } from "./host-keys.ts";

export interface BusHearingDeps extends BusJudge {
  /** What another server says of the state; undefined when it does not. */
  readonly ask: (server: string) => Promise<StateHealth | undefined>;
}

export interface HearingLook {
  /** Of the other hosts. */
  readonly servers: readonly string[];
  /** Since something was heard of the state through this host's server. */
  readonly silentMs: number;
}

const askEveryMs = 5_000;
const askLimitMs = 2_000;

export class BusHearing {
  readonly #deps: BusHearingDeps;
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(deps: BusHearingDeps) {
    this.#deps = deps;
  }

  /** Whether this host's server is to start again. */
  async look({ servers, silentMs }: HearingLook): Promise<boolean> {
    const { nodeId, ask, nowMs, logger } = this.#deps;
    if (silentMs < silentLimitMs || nowMs() < this.#nextMs) return false;
    this.#nextMs = nowMs() + askEveryMs;
    const told = (await Promise.all(servers.map(ask))).filter((health) => health !== undefined);
    const well = told.find((health) => health.leader !== undefined && goesOnWithout(nodeId, health));
    if (well === undefined) return false;
    this.#nextMs = nowMs() + betweenRestartsMs;
    logger.error(
      { leader: well.leader, silent_ms: Math.round(silentMs) },
      "nothing is heard of the state through this host's server of the bus, though the others have it: it starts again",
    );
    return true;
  }
}

/** Of one server and no other, with the key that the node's services have. */
export function stateAsToldBy({ settings, identity }: Pick<HostBusDeps, "settings" | "identity">) {
  return async (server: string): Promise<StateHealth | undefined> => {
    try {
      await using bus = await connectBus({
        ...{ servers: server, seedPath: keyPaths(settings.dataDir).node, identity: identity.node_id },
        ...{ name: "host-agent-hearing", connectTimeoutMs: askLimitMs, staysWithServers: true },
      });
      return await stateHealth(bus);
    } catch {
      return undefined;
    }
  };
}
