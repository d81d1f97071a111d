/** What a worker needs of the world; everything that a test or a simulation puts in its place is here. */
import type { Bus, FactStore, NodeConfig } from "@hearth/cluster";
import type { HearthError } from "@hearth/errors";
import type { NetworkExecutor } from "@hearth/network";
import type { Logger } from "@hearth/telemetry";
import type { Vmm } from "@hearth/vmm";
import type { Connect } from "./checks/check-probe.ts";
import type { ImagesClient } from "./runs/images-client.ts";
import { defaultStepLimits, type StepLimits } from "./runs/step-limits.ts";

export interface Clock {
  nowMs(): number;
  /** Rejects with the signal's reason when it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface WorkerDeps {
  readonly config: NodeConfig;
  readonly bus: Bus;
  readonly facts: Pick<
    FactStore,
    "publish" | "delete" | "read" | "compareAndSet" | "isIntact" | "position" | "noteRestated"
  >;
  readonly makeVmm: () => Vmm;
  readonly network: Pick<
    NetworkExecutor,
    "buildSlot" | "hasSlot" | "applySlot" | "exchangeEgress" | "removeSlot" | "removeElements"
  >;
  readonly images: ImagesClient;
  /** To the private address of a machine, for its health checks; plain TCP when absent. */
  readonly connect?: Connect;
  readonly clock: Clock;
  /** Milliseconds since the host booted; the host's own when absent. */
  readonly bootMs?: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly logger: Logger;
  /** Of this boot of the host; a process of another boot is not believed to be ours. */
  readonly bootId: string;
  readonly limits?: Partial<WorkerLimits>;
  /** The database is damaged: this process must end, and its machines run on. */
  readonly onCorrupt: (error: HearthError) => void;
}

export interface WorkerLimits extends StepLimits {
  /** How long the fact of a destroyed machine stays. */
  readonly destroyedFactMs: number;
  /** How long its row, events and logs stay, to explain how it ended. */
  readonly destroyedRowMs: number;
  readonly nodeFactEveryMs: number;
  /** How often the host is looked at for what no ledger has, and how long that must have been there. */
  readonly orphanSweepMs: number;
  readonly orphanGraceMs: number;
  /** Network slots that are kept ready. */
  readonly slotPool: number;
  /** Between looks whether a database that could not be written can be: the first, and the longest. */
  readonly probeMs: number;
  readonly longestProbeMs: number;
}

export const defaultLimits: WorkerLimits = {
  ...defaultStepLimits,
  destroyedFactMs: 60_000,
  destroyedRowMs: 3_600_000,
  nodeFactEveryMs: 3_000,
  orphanSweepMs: 20_000,
  orphanGraceMs: 60_000,
  slotPool: 2,
  probeMs: 500,
  longestProbeMs: 15_000,
};
