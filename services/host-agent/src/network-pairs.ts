/**
 * Networks that may talk though they are two, from the cluster state into this host's firewall: the whole set each time,
 * so that what was unpaired while nobody looked is cut off too. It stays as it is while the agent is down, and while its
 * copy of the state does not even hold this node's own key: it is empty then, and says nothing of what is paired.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Replica } from "@hearth/cluster";
import { factKeys, factPrefixes, type NetworkPairFact } from "@hearth/machine";
import type { NetworkExecutor, NetworkPair } from "@hearth/network";
import type { Logger } from "@hearth/telemetry";

export interface NetworkPairsDeps {
  readonly nodeId: string;
  readonly replica: Pick<Replica, "get" | "list" | "watch">;
  readonly network: Pick<NetworkExecutor, "pairNetworks">;
  readonly logger: Logger;
  readonly retryMs?: number;
}

const defaultRetryMs = 2_000;

export class NetworkPairs {
  readonly #deps: NetworkPairsDeps;
  readonly #stopping = new AbortController();
  #woken = Promise.withResolvers<void>();
  #watching: readonly Disposable[] = [];
  #turns: Promise<void> | undefined;

  constructor(deps: NetworkPairsDeps) {
    this.#deps = deps;
  }

  start(): void {
    const { replica, nodeId } = this.#deps;
    this.#watching = [factPrefixes.networkPair, factKeys.nodeKey(nodeId)].map((prefix) =>
      replica.watch(prefix, () => this.#woken.resolve()),
    );
    this.#turns = this.#run();
  }

  /** Changes nothing: who takes the firewall away takes this too. */
  async stop(): Promise<void> {
    for (const watching of this.#watching) watching[Symbol.dispose]();
    this.#stopping.abort();
    this.#woken.resolve();
    await this.#turns;
  }

  async #run(): Promise<void> {
    const { nodeId, network, logger, retryMs = defaultRetryMs } = this.#deps;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      this.#woken = Promise.withResolvers();
      try {
        if (this.#isKnown) await network.pairNetworks(nodeId, this.#wanted(), signal);
        await this.#woken.promise;
      } catch (error) {
        if (signal.aborted) return;
        logger.warn(
          { err: error },
          "the firewall could not be told which networks are paired; it is tried again",
        );
        await delay(retryMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  get #isKnown(): boolean {
    return this.#deps.replica.get(factKeys.nodeKey(this.#deps.nodeId)) !== undefined;
  }

  #wanted(): NetworkPair[] {
    return this.#deps.replica
      .list(factPrefixes.networkPair)
      .map(({ value }) => (value as NetworkPairFact).networks);
  }
}
