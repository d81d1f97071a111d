/** What the agent says of itself and of its node. */
import type { MeshNodeStatus, NodeRole } from "@hearth/machine";
import type { BusPlan } from "./bus-plan.ts";
import type { ServiceStatus } from "./supervisor.ts";

/** `degraded`: it was ready, and a part of it does not answer now. */
export type AgentState = "starting" | "ready" | "degraded" | "stopping";

export interface BusStatus {
  readonly server: BusPlan["server"];
  /** What the services of this host were given. */
  readonly servers: readonly string[];
  /** Hosts whose servers are the bus, as far as this host has heard. */
  readonly members: readonly string[];
  /** Of the state; known on a host that runs a server. */
  readonly copies?: number;
  readonly current_copies?: number;
  /** Of this host's server, `2.9.10`; absent where it runs none. */
  readonly server_version?: string;
  /** Whether this host's server has each message on disk before it acknowledges it. */
  readonly syncs_always?: boolean;
}

export interface AgentStatus {
  readonly state: AgentState;
  readonly pid: number;
  readonly started_at_ms: number;
  readonly node_id: string;
  readonly region: string;
  readonly roles: readonly NodeRole[];
  /** Where other hosts reach this one; null when they do not. */
  readonly address: string | null;
  /** This host's API, or one of its region's where it has none. */
  readonly api_url: string;
  readonly bus: BusStatus | null;
  readonly mesh: MeshNodeStatus | null;
  readonly token_path: string;
  readonly data_dir: string;
  readonly run_dir: string;
  readonly accelerator: "kvm" | "tcg";
  /** One sentence: what was seen when KVM was tried. */
  readonly accelerator_reason: string;
  readonly capacity: { readonly cpus: number; readonly memory_mb: number };
  /** What is not enforced on this host. */
  readonly warnings: readonly string[];
  readonly services: readonly ServiceStatus[];
  /** Sentences about what does not work now; empty when all is well. */
  readonly problems: readonly string[];
}
