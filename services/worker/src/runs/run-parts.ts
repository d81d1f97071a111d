/** What the steps of machine runs work with. */
import type { NodeConfig, Outbox } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { NetworkExecutor } from "@hearth/network";
import { type GuestNetwork, planGuest } from "@hearth/network";
import type { Logger } from "@hearth/telemetry";
import type { HostPaths } from "../host/host-paths.ts";
import type { Ledger } from "../journal/ledger.ts";
import type { Step } from "../journal/run-step.ts";
import type { LiveMachine } from "../machines/live-machine.ts";
import type { NodeIdentity } from "../machines/machine-record.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import type { MachineStore } from "../machines/machine-store.ts";
import { addressing } from "../slots/slot-identity.ts";
import { type SlotPool, slotKind } from "../slots/slot-pool.ts";
import type { Clock, WorkerLimits } from "../worker-deps.ts";
import type { ImagesClient } from "./images-client.ts";
import type { ScratchDisks } from "./scratch-disk.ts";

/** The VMs that this worker holds. */
export interface LiveMachines {
  get(machineId: string): LiveMachine | undefined;
  /** Made when there is none, for the VM of this boot. */
  make(machineId: string, boot: string): LiveMachine;
  /** Forgets it and lets go of it. */
  drop(machineId: string): Promise<void>;
}

export interface RunParts {
  readonly config: NodeConfig;
  readonly identity: NodeIdentity;
  readonly store: MachineStore;
  /** What has been told to others. */
  readonly outbox: Pick<Outbox, "mark" | "isSent">;
  readonly ledger: Ledger;
  readonly live: LiveMachines;
  readonly disks: ScratchDisks;
  readonly network: Pick<
    NetworkExecutor,
    "applySlot" | "hasSlot" | "exchangeEgress" | "removeSlot" | "removeElements"
  >;
  readonly slots: Pick<SlotPool, "claim">;
  readonly images: ImagesClient;
  readonly paths: HostPaths;
  readonly clock: Clock;
  readonly limits: WorkerLimits;
  readonly logger: Logger;
}

/** All runs of machines have the same input: what to do is read from the row when it is done. */
export interface RunInput {
  readonly machineId: string;
}

export type MachineStep = Step<RunInput>;

/** What the guest is told of its network, whichever slot it has. */
export const guestOf = ({ identity }: Pick<RunParts, "identity">, row: MachineRow): GuestNetwork =>
  planGuest(addressing(identity, row));

/** The slot that a machine holds. */
export const heldSlot = ({ ledger }: Pick<RunParts, "ledger">, machineId: string): string | undefined =>
  ledger.ofMachine(machineId).find(({ kind }) => kind === slotKind)?.key;

/** Throws vmm_not_running when this worker holds no VM of the machine. */
export function needLive(parts: RunParts, machineId: string): LiveMachine {
  const live = parts.live.get(machineId);
  if (live === undefined) throw new HearthError("vmm_not_running");
  return live;
}
