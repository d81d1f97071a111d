/**
 * A machine as clients of the Machines API read it. Times are RFC 3339 strings except in events, which carry
 * milliseconds; typed clients fail on the other form.
 */
import type { MachineConfig } from "./config.ts";
import type { StartError } from "./explain.ts";
import type { InstanceId, MachineId } from "./ids.ts";
import type { MachineState } from "./states.ts";

export interface ImageRef {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface ExitEvent {
  readonly exit_code: number;
  readonly guest_exit_code: number;
  readonly guest_signal: number;
  readonly oom_killed: boolean;
  readonly requested_stop: boolean;
  readonly restarting: boolean;
  readonly signal: number;
  /** RFC 3339 */
  readonly exited_at: string;
  readonly guest_error?: string;
  readonly error?: string;
}

export const machineEventTypes = [
  "launch",
  "start",
  "exit",
  "stop",
  "update",
  "restart",
  "suspend",
  "resume",
  "destroy",
  "failed",
] as const;
export type MachineEventType = (typeof machineEventTypes)[number];

/** `flyd` is what the API calls the platform; `status` is the machine's state at the event. */
export interface MachineEvent {
  readonly id: string;
  readonly type: MachineEventType;
  readonly status: MachineState;
  readonly source: "user" | "flyd";
  readonly timestamp: number;
  readonly request?: {
    readonly exit_event?: ExitEvent;
    readonly restart_count?: number;
    /** Why a machine failed. */
    readonly error?: StartError;
    /** In an `update` by the platform: the version that could not start, and the one that is back. */
    readonly rolled_back?: { readonly from: InstanceId; readonly to: InstanceId };
  };
}

export interface MachineCheck {
  readonly name: string;
  readonly status: "passing" | "warning" | "critical";
  readonly output: string;
  readonly updated_at: string;
}

export interface MachineRecord {
  readonly id: MachineId;
  readonly name: string;
  readonly state: MachineState;
  readonly region: string;
  readonly instance_id: InstanceId;
  /** The API calls the instance id by this name as well. */
  readonly version: InstanceId;
  readonly private_ip: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly image_ref: ImageRef;
  readonly config: MachineConfig;
  readonly incomplete_config: MachineConfig | null;
  /** Newest first. */
  readonly events: readonly MachineEvent[];
  readonly checks: readonly MachineCheck[];
  readonly host_status: "ok" | "unknown" | "unreachable";
  readonly cordoned: boolean;
  /** Only in the answer that made the lease. */
  readonly nonce?: string;
}

/** What was seen when the machine's main process, or its VM, ended. */
export interface MachineExit {
  readonly exitCode: number;
  /** The signal that ended it; 0 when none did. */
  readonly signal: number;
  readonly oomKilled: boolean;
  readonly requestedStop: boolean;
  readonly exitedAtMs: number;
  /** Why the VM ended, when it was not the guest's program that ended it. */
  readonly error?: string;
}

/** A process that a signal ended has, by the custom of shells, the exit code 128 + signal. */
export function exitEvent(exit: MachineExit, restarting: boolean): ExitEvent {
  const event: ExitEvent = {
    exit_code: exit.signal > 0 ? 128 + exit.signal : exit.exitCode,
    guest_exit_code: exit.exitCode,
    guest_signal: exit.signal > 0 ? exit.signal : -1,
    oom_killed: exit.oomKilled,
    requested_stop: exit.requestedStop,
    restarting,
    signal: exit.signal > 0 ? exit.signal : -1,
    exited_at: new Date(exit.exitedAtMs).toISOString(),
  };
  return exit.error === undefined ? event : { ...event, error: exit.error };
}

export const maxEventsAnswered = 50;

/** The newest `limit` of events that are stored oldest first. */
export function newestEvents(oldestFirst: readonly MachineEvent[], limit = 20): MachineEvent[] {
  const count = Math.min(Math.max(1, limit), maxEventsAnswered);
  return oldestFirst.slice(-count).reverse();
}
