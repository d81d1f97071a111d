/** What the commands of a worker are about, for whoever refuses some of them as a whole. */
import type { WorkerCommandName } from "@hearth/machine";

/** What may put something on the host, or take it away. */
export const starting: ReadonlySet<WorkerCommandName> = new Set([
  "reserve",
  "commit",
  "yield",
  "keep",
  "forget",
  "update",
  "start",
  "wake",
  "stop",
  "restart",
  "destroy",
]);
/** What changes only the record. */
export const noting: ReadonlySet<WorkerCommandName> = new Set([
  "set-metadata",
  "lease-acquire",
  "lease-release",
  "cordon",
  "uncordon",
]);
