/** Tells the cluster every few seconds what this node is and what it still takes. */
import type { FactStore, NodeConfig } from "@hearth/cluster";
import { factKeys, hearthVersion, type NodeFact } from "@hearth/machine";
import { BackgroundLoop } from "@hearth/process";
import type { Logger } from "@hearth/telemetry";
import type { Restatement } from "../journal/restatement.ts";
import { type Admission, defaultCpuOvercommit } from "../machines/admission.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import type { Shape } from "../machines/reservations.ts";
import type { Clock } from "../worker-deps.ts";
import { pressureProblems, pressureWarnings, readPressure } from "./host-pressure.ts";
import type { ServiceHealth } from "./service-health.ts";

export interface NodeFactsDeps {
  readonly config: NodeConfig;
  readonly facts: Pick<FactStore, "publish">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly everyMs: number;
  readonly load: () => NodeLoad;
  readonly problems: () => readonly string[];
  readonly services: () => ServiceHealth;
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

/** A node that is being taken down has no room, and what is on it. */
export function loadOf(
  rows: readonly MachineRow[],
  admission: Pick<Admission, "free" | "reserved">,
  { draining }: { readonly draining: boolean },
): NodeLoad {
  return {
    free: draining ? noLoad.free : admission.free(rows),
    reserved: admission.reserved(),
    machines: rows.filter(({ state }) => state !== "destroyed").length,
    images: imagesOf(rows),
  };
}

export class NodeFacts {
  readonly #deps: NodeFactsDeps;
  readonly #loop = new BackgroundLoop((signal) => this.#run(signal));
  #wake: () => void = () => undefined;

  constructor(deps: NodeFactsDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** Something has changed that placement goes by. */
  soon(): void {
    this.#wake();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { facts, clock, everyMs, config, logger, restatement } = this.#deps;
    while (!signal.aborted) {
      // Made before it is said, so that what changes while it is said is not lost.
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await restatement
        .look()
        .catch((error: unknown) => logger.warn({ err: error }, "the bus does not say what it still has"));
      try {
        await facts.publish(factKeys.node(config.node_id), this.#fact());
      } catch (error) {
        logger.warn({ err: error }, "the node's fact could not be published");
      }
      await clock.sleep(everyMs, AbortSignal.any([signal, woken.signal])).catch(() => undefined);
    }
  }

  #fact(): NodeFact {
    const { config, clock, load, services } = this.#deps;
    const { free, reserved, machines, images } = load(); // its look at the tables may find the first problem
    const pressure = readPressure(config.data_dir);
    const { restated } = this.#deps.restatement;
    const cpu_overcommit = config.cpu_overcommit ?? defaultCpuOvercommit;
    const problems = [
      ...this.#deps.problems(),
      ...services().problems,
      ...(pressure === undefined ? [] : pressureProblems(pressure)),
    ];
    return {
      node_id: config.node_id,
      region: config.region,
      version: hearthVersion,
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
        ...services().warnings,
        ...(pressure === undefined ? [] : pressureWarnings(pressure)),
      ],
      ...(problems.length === 0 ? {} : { problems }),
      ...(pressure === undefined ? {} : { pressure }),
      published_at_ms: clock.nowMs(),
      ...(restated === undefined ? {} : { restated }),
    };
  }
}
