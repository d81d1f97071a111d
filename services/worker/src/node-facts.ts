/** Tells the cluster every few seconds what this node is and what it still takes. */
import type { FactStore, NodeConfig } from "@hearth/cluster";
import { factKeys, type NodeFact } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import { defaultCpuOvercommit } from "./admission.ts";
import type { MachineRow } from "./machine-row.ts";
import type { Shape } from "./reservations.ts";
import type { Restatement } from "./restatement.ts";
import type { Clock } from "./worker-deps.ts";

export interface NodeFactsDeps {
  readonly config: NodeConfig;
  readonly facts: Pick<FactStore, "publish">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly everyMs: number;
  readonly load: () => NodeLoad;
  readonly problems: () => readonly string[];
  readonly restatement: Pick<Restatement, "look" | "restated">;
}

export interface NodeLoad {
  readonly free: Shape;
  readonly reserved: Shape;
  /** Without those that are destroyed. */
  readonly machines: number;
  readonly images: readonly string[];
}

/** What is said while the tables cannot be read. */
export const noLoad: NodeLoad = {
  free: { cpus: 0, memory_mb: 0 },
  reserved: { cpus: 0, memory_mb: 0 },
  machines: 0,
  images: [],
};

/** The fact is sent every few seconds, so it stays short. */
const toldImages = 64;

/** Images that machines of this node hold, so that another one of the same need not wait for it. */
export function imagesOf(rows: readonly MachineRow[]): string[] {
  const held = rows.filter(({ image, state }) => image !== null && state !== "destroyed");
  const newestFirst = held.toSorted((a, b) => b.createdMs - a.createdMs).map(({ config }) => config.image);
  return [...new Set(newestFirst)].slice(0, toldImages).sort();
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
    const { config, clock, load, problems } = this.#deps;
    const { free, reserved, machines, images } = load(); // its look at the tables may find the first problem
    const { restated } = this.#deps.restatement;
    const cpu_overcommit = config.cpu_overcommit ?? defaultCpuOvercommit;
    return {
      node_id: config.node_id,
      region: config.region,
      version,
      accelerator: config.accelerator,
      total_cpus: config.capacity.cpus,
      total_memory_mb: config.capacity.memory_mb,
      free_memory_mb: Math.max(0, free.memory_mb),
      free_cpus: Math.max(0, free.cpus),
      reserved_memory_mb: reserved.memory_mb,
      reserved_cpus: reserved.cpus,
      hot_slots: 0,
      cpu_overcommit,
      labels: config.labels ?? {},
      images,
      machines,
      warnings: [
        ...config.warnings,
        `Processors are shared: up to ${cpu_overcommit} virtual ones for each of the host's.`,
        "Virtual machine monitors run as the worker's own user, without a cgroup of their own.",
      ],
      ...(problems().length === 0 ? {} : { problems: problems() }),
      published_at_ms: clock.nowMs(),
      ...(restated === undefined ? {} : { restated }),
    };
  }
}
