/** Tells the cluster every few seconds what this node is and what it still takes. */
import type { FactStore, NodeConfig } from "@hearth/cluster";
import { factKeys, type NodeFact } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import { cpuOvercommit } from "./admission.ts";
import type { Restatement } from "./restatement.ts";
import type { Clock } from "./worker-deps.ts";

export interface NodeFactsDeps {
  readonly config: NodeConfig;
  readonly facts: Pick<FactStore, "publish">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly everyMs: number;
  readonly free: () => number;
  readonly machines: () => number;
  readonly problems: () => readonly string[];
  readonly restatement: Pick<Restatement, "look" | "restated">;
}

const version = "0.1.0";

export class NodeFacts {
  readonly #deps: NodeFactsDeps;
  readonly #stopping = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(deps: NodeFactsDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { facts, clock, everyMs, config, logger, restatement } = this.#deps;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await restatement
        .look()
        .catch((error: unknown) => logger.warn({ err: error }, "the bus does not say what it still has"));
      try {
        await facts.publish(factKeys.node(config.node_id), this.#fact());
      } catch (error) {
        logger.warn({ err: error }, "the node's fact could not be published");
      }
      await clock.sleep(everyMs, signal).catch(() => undefined);
    }
  }

  #fact(): NodeFact {
    const { config, clock, free, machines, problems } = this.#deps;
    const { restated } = this.#deps.restatement;
    const free_memory_mb = Math.max(0, free()); // its look at the tables may find the first problem
    return {
      node_id: config.node_id,
      region: config.region,
      version,
      accelerator: config.accelerator,
      total_cpus: config.capacity.cpus,
      total_memory_mb: config.capacity.memory_mb,
      free_memory_mb,
      machines: machines(),
      warnings: [
        ...config.warnings,
        `Processors are shared: up to ${cpuOvercommit} virtual ones for each of the host's.`,
        "Virtual machine monitors run as the worker's own user, without a cgroup of their own.",
      ],
      ...(problems().length === 0 ? {} : { problems: problems() }),
      published_at_ms: clock.nowMs(),
      ...(restated === undefined ? {} : { restated }),
    };
  }
}
