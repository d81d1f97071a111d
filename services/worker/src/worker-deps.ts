/** What a worker needs of the world; everything that a test or a simulation puts in its place is here. */
import type { Bus, FactStore, NodeConfig } from "@hearth/cluster";
import type { NetworkExecutor } from "@hearth/network";
import type { Logger } from "@hearth/telemetry";
import type { Vmm } from "@hearth/vmm";
import type { Connect } from "./check-probe.ts";
import type { ImagesClient } from "./images-client.ts";

export interface Clock {
  nowMs(): number;
  /** Rejects with the signal's reason when it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface WorkerDeps {
  readonly config: NodeConfig;
  readonly bus: Bus;
  readonly facts: Pick<FactStore, "publish" | "delete">;
  readonly makeVmm: () => Vmm;
  readonly network: Pick<NetworkExecutor, "applySlot" | "removeSlot">;
  readonly images: ImagesClient;
  /** To the private address of a machine, for its health checks; plain TCP when absent. */
  readonly connect?: Connect;
  readonly clock: Clock;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly logger: Logger;
  /** Of this boot of the host; a process of another boot is not believed to be ours. */
  readonly bootId: string;
  readonly limits?: Partial<WorkerLimits>;
}

export interface WorkerLimits {
  /** From the start of the VM to the answer of its agent. */
  readonly bootMs: number;
  /** How long the fact of a destroyed machine stays. */
  readonly destroyedFactMs: number;
  /** How long its row, events and logs stay, to explain how it ended. */
  readonly destroyedRowMs: number;
  readonly nodeFactEveryMs: number;
}

export const defaultLimits: WorkerLimits = {
  bootMs: 90_000,
  destroyedFactMs: 60_000,
  destroyedRowMs: 3_600_000,
  nodeFactEveryMs: 3_000,
};
