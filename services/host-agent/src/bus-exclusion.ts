/**
 * Whether the region has taken this host out while it could not hear of it. Its server comes up with its old files and
 * waits for others that refuse it, and whoever connects to it waits too. So when its server has been without a leader,
 * the agent asks the others with the node's own key: who is refused, and let in by none, is out.
 */
import { connectBus } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { HostBusDeps } from "./host-bus.ts";
import { keyPaths } from "./host-keys.ts";

export interface ExclusionLook {
  /** Of the other hosts. */
  readonly servers: readonly string[];
  /** Whether this host's server has been without a leader for a while. */
  readonly isSilent: boolean;
}

const lookEveryMs = 10_000;
const connectLimitMs = 2_000;

/** Of a host that has heard that it was removed. */
export const removedProblem = (dataDir: string): string =>
  `This host was removed from the region, so its bus server is stopped and its keys are refused. To let it join again, run \`hearth down\` and remove ${dataDir}: it gets a new identity.`;

export class BusExclusion {
  readonly #deps: Pick<HostBusDeps, "settings" | "identity" | "logger">;
  #isOut = false;
  #nextMs = 0;

  constructor(deps: Pick<HostBusDeps, "settings" | "identity" | "logger">) {
    this.#deps = deps;
  }

  get problem(): string | undefined {
    if (!this.#isOut) return undefined;
    const { dataDir } = this.#deps.settings;
    return `The servers of the bus refuse this host's keys, as they do when a host was removed from its region; so its own bus server is stopped. If it was removed and is to join again, run \`hearth down\` and remove ${dataDir}: it gets a new identity.`;
  }

  /** Whether this host's server is not to run. */
  async look({ servers, isSilent }: ExclusionLook): Promise<boolean> {
    if (!isSilent && !this.#isOut) return false;
    if (performance.now() < this.#nextMs) return this.#isOut;
    const answers = await Promise.all(servers.map((url) => this.#isLetIn(url)));
    this.#nextMs = performance.now() + lookEveryMs;
    const before = this.#isOut;
    if (answers.includes(true)) this.#isOut = false;
    else if (answers.includes(false)) this.#isOut = true;
    if (this.#isOut !== before)
      this.#deps.logger.warn({ out: this.#isOut, servers }, "whether the bus refuses this host");
    return this.#isOut;
  }

  /** Undefined when the server does not say. */
  async #isLetIn(url: string): Promise<boolean | undefined> {
    const { settings, identity } = this.#deps;
    const seedPath = keyPaths(settings.dataDir).node;
    try {
      const bus = await connectBus({
        ...{ servers: url, seedPath, identity: identity.node_id, name: "host-agent-exclusion" },
        connectTimeoutMs: connectLimitMs,
      });
      await bus.close();
      return true;
    } catch (error) {
      return HearthError.from(error).code === "bus_unauthorized" ? false : undefined;
    }
  }
}
