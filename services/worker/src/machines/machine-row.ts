/** A machine as its worker keeps it: what is wanted, what was seen, and what of the host is its. */
import type {
  AppEgress,
  EgressPolicyInput,
  FailedUpdate,
  InstanceId,
  Lease,
  MachineCheck,
  MachineConfig,
  MachineExit,
  MachineId,
  MachineState,
  NodeImage,
  ScheduleName,
} from "@hearth/machine";
import type { VmmHandle } from "@hearth/vmm";

export type Desired = "started" | "stopped" | "destroyed";

/** How a machine is to be ended; what is absent, its configuration says. */
export interface StopRequest {
  readonly signal?: number;
  readonly timeoutMs?: number;
  /** Without asking its program. */
  readonly force?: boolean;
}

/** What of an update is not settled yet, or was not well. */
export type Rollback =
  /** Until the version of now has run once, this is what the machine goes back to when it cannot start. */
  | {
      readonly kind: "to";
      readonly instanceId: InstanceId;
      readonly config: MachineConfig;
      readonly image: NodeImage | null;
      /** It ran when it was replaced, so it is started again. */
      readonly ran: boolean;
    }
  /** The machine went back, from this; `pending` until the version of now has run again. */
  | { readonly kind: "from"; readonly failed: FailedUpdate; readonly pending: boolean };

/** What was last seen of a health check, since this boot of the machine. */
export interface CheckResult {
  readonly status: MachineCheck["status"];
  readonly output: string;
  /** When the status or the output became so. */
  readonly updatedMs: number;
}

/** When a machine with this schedule is started next. */
export interface Turn {
  readonly schedule: ScheduleName;
  readonly dueMs: number;
}

/** Of a machine that was moved here, or is being moved away. */
export interface Placement {
  /** The newest decision of the region that this worker was told of. */
  readonly term: number;
  /** here: it lives here. yielded: it is kept down for another node. gone: another node has it. */
  readonly role: "here" | "yielded" | "gone";
}

export interface MachineRow {
  readonly machineId: MachineId;
  readonly instanceId: InstanceId;
  readonly app: string;
  readonly name: string;
  readonly region: string;
  readonly network: number;
  readonly machineNumber: number;
  readonly egressSlot: number;
  readonly config: MachineConfig;
  /** What its app says of what it may send, as far as this worker has heard. */
  readonly appEgress: AppEgress | null;
  /**
   * What its slot was claimed with, written before it is applied: one policy, or none when null. While it is being
   * changed it is the one of before and the one of after, where one without entries stands for none.
   */
  readonly slotEgress: readonly EgressPolicyInput[] | null;
  readonly desired: Desired;
  readonly state: MachineState;
  /** Grows with every change; the fact carries it. */
  readonly revision: number;
  /** What the reference of this instance meant when it was first started. */
  readonly image: NodeImage | null;
  /** Of the VM that may run; null when none does. */
  readonly handle: VmmHandle | null;
  /** Names one life of the VM: the run that started it. */
  readonly boot: string | null;
  /** Set from the request to the end of the VM that it ends. */
  readonly stop: StopRequest | null;
  /** How the program of this boot ended, until the VM is gone too. */
  readonly exit: MachineExit | null;
  /** When it was restarted by its policy. */
  readonly restarts: readonly number[];
  /** A start is not begun before this. */
  readonly startAtMs: number;
  /** When the program of this boot was started; of the last boot when none runs. */
  readonly startedMs: number | null;
  /** By the name of the check; null before the first result. */
  readonly checks: Readonly<Record<string, CheckResult>> | null;
  readonly turn: Turn | null;
  /** Whether an update in progress ends in a start. */
  readonly launch: boolean;
  readonly rollback: Rollback | null;
  readonly lease: Lease | null;
  /** No new traffic is to go to it. */
  readonly cordoned: boolean;
  /** null when it was made here and never moved. */
  readonly placement: Placement | null;
  readonly createdMs: number;
  readonly updatedMs: number;
}

type Sql = string | number | null;

/** Columns by field, so that a field can be forgotten neither in reading nor in writing. */
const columns: {
  readonly [Field in keyof MachineRow]: { readonly name: string; readonly kind: "plain" | "json" | "flag" };
} = {
  machineId: { name: "machine_id", kind: "plain" },
  instanceId: { name: "instance_id", kind: "plain" },
  app: { name: "app", kind: "plain" },
  name: { name: "name", kind: "plain" },
  region: { name: "region", kind: "plain" },
  network: { name: "network", kind: "plain" },
  machineNumber: { name: "machine_number", kind: "plain" },
  egressSlot: { name: "egress_slot", kind: "plain" },
  config: { name: "config", kind: "json" },
  appEgress: { name: "app_egress", kind: "json" },
  slotEgress: { name: "slot_egress", kind: "json" },
  desired: { name: "desired", kind: "plain" },
  state: { name: "state", kind: "plain" },
  revision: { name: "revision", kind: "plain" },
  image: { name: "image", kind: "json" },
  handle: { name: "handle", kind: "json" },
  boot: { name: "boot", kind: "plain" },
  stop: { name: "stop", kind: "json" },
  exit: { name: "exit", kind: "json" },
  restarts: { name: "restarts", kind: "json" },
  startAtMs: { name: "start_at_ms", kind: "plain" },
  startedMs: { name: "started_ms", kind: "plain" },
  checks: { name: "checks", kind: "json" },
  turn: { name: "turn", kind: "json" },
  launch: { name: "launch", kind: "flag" },
  rollback: { name: "rollback", kind: "json" },
  lease: { name: "lease", kind: "json" },
  cordoned: { name: "cordoned", kind: "flag" },
  placement: { name: "placement", kind: "json" },
  createdMs: { name: "created_ms", kind: "plain" },
  updatedMs: { name: "updated_ms", kind: "plain" },
};

const fields = Object.keys(columns) as readonly (keyof MachineRow)[];

export const machineColumns: readonly string[] = fields.map((field) => columns[field].name);

export function rowOf(stored: Readonly<Record<string, unknown>>): MachineRow {
  const read = (field: keyof MachineRow): unknown => {
    const { name, kind } = columns[field];
    const value = stored[name];
    if (kind === "flag") return value === 1;
    return kind === "json" && value !== null ? JSON.parse(String(value)) : value;
  };
  return Object.fromEntries(fields.map((field) => [field, read(field)])) as unknown as MachineRow;
}

/** In the order of `machineColumns`. */
export function valuesOf(row: MachineRow): Sql[] {
  return fields.map((field) => {
    const value = row[field];
    if (columns[field].kind === "flag") return value ? 1 : 0;
    return columns[field].kind === "json" && value !== null ? JSON.stringify(value) : (value as Sql);
  });
}
