/** What a worker answers when it is asked to compare its database with its host. */
export const differenceKinds = [
  "process",
  "guard",
  "namespace",
  "interface",
  "tap",
  "firewall-element",
  "route",
  "cgroup",
  "mount",
  "loop-device",
  "disk",
  "run-directory",
  "machine-directory",
  "socket",
  "address",
  "reservation",
  "ledger",
  "record",
] as const;
export type DifferenceKind = (typeof differenceKinds)[number];

export interface Difference {
  readonly kind: DifferenceKind;
  /** Names the thing within its kind. */
  readonly key: string;
  /** The machine that it is of, by the record, the ledger or the thing's own name; null when none is known. */
  readonly machine_id: string | null;
  /** `unexpected`: on the host and in no ledger. `missing`: in the ledger and not on the host. */
  readonly problem: "unexpected" | "missing" | "inconsistent";
  readonly message: string;
  /** Something is being done to its machine, so this may be about to go away. */
  readonly pending: boolean;
}

export interface Inspection {
  readonly node_id: string;
  /** Machines that were compared; destroyed ones do not count. */
  readonly machines: number;
  readonly differences: readonly Difference[];
}
