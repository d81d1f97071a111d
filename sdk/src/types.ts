/** Shapes of the API that are not those of a machine; the machine's are in @hearth/machine. */
import type { MachineConfigInput, MachineRecord, NodeFact, PlacementReport } from "@hearth/machine";

export interface App {
  readonly id: string;
  readonly name: string;
  readonly status?: string;
  readonly network?: string | number;
  readonly organization?: { readonly name?: string; readonly slug?: string };
  readonly machine_count?: number;
  readonly created_at?: number;
  readonly egress?: EgressPolicy;
}

/** What may be sent to the world: an allow wins over a deny, and what neither names passes. */
export interface EgressPolicy {
  readonly allowOut?: string[];
  readonly denyOut?: string[];
  readonly allow_internet_access?: boolean;
}

/** A field that was accepted and has no effect. */
export interface FieldWarning {
  readonly field: string;
  readonly message: string;
}

export type Machine = MachineRecord & {
  readonly warnings?: readonly FieldWarning[];
  /** In the answer to a create: how the node was chosen. */
  readonly placement?: PlacementReport;
};
/** From a list over all apps. */
export type AppMachine = Machine & { readonly app_name: string };

export interface CreateMachine {
  readonly config: MachineConfigInput;
  readonly name?: string;
  readonly region?: string;
  readonly skip_launch?: boolean;
  /** Seconds; the answer then carries a `nonce`. */
  readonly lease_ttl?: number;
}

export interface UpdateMachine extends CreateMachine {
  /** Refused as a conflict when the machine has another version by now. */
  readonly current_version?: string;
}

export interface ExecResult {
  readonly exit_code: number;
  readonly exit_signal?: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface GuestProcess {
  readonly pid: number;
  readonly command: string;
  readonly directory?: string;
  readonly cpu?: number;
  readonly rss?: number;
  readonly stime?: number;
  readonly rtime?: number;
}

export type FileKind = "file" | "directory" | "symlink" | "other";

export interface FileInfo {
  readonly name: string;
  readonly kind: FileKind;
  readonly size: number;
  /** The permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly modified_ms: number;
  readonly link_target?: string;
}

export interface NodeSummary extends NodeFact {
  /** Since the API last heard it. */
  readonly age_ms?: number;
  readonly state?: string;
  readonly cordoned?: boolean;
  readonly draining?: boolean;
  readonly lease?: { readonly state: string; readonly term: number } | null;
  readonly schedulable?: boolean;
}

export interface MachineMove {
  readonly machine_id: string;
  readonly app: string;
  readonly name: string;
  readonly state: string;
  /** The node that it moves, or has moved, to. */
  readonly to: string | null;
  /** What hinders its move. */
  readonly why: string | null;
}

export interface NodeStatus extends NodeSummary {
  readonly remaining: readonly MachineMove[];
  readonly moved: readonly MachineMove[];
}

export interface Health {
  readonly status?: string;
  readonly [name: string]: unknown;
}

export interface JoinTokenWish {
  readonly api?: boolean;
  readonly bus?: boolean;
  readonly ttl_seconds?: number;
}

export interface MadeJoinToken {
  readonly token: string;
  readonly roles: readonly string[];
  readonly expires_at_ms: number;
}
