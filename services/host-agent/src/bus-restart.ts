/** When this host's server of the bus may be started again because something is wrong with it: for those who judge that. */
import type { StateHealth } from "@hearth/cluster";
import type { Logger } from "@hearth/telemetry";

export interface BusJudge {
  readonly nodeId: string;
  /** Monotonic. */
  readonly nowMs: () => number;
  readonly logger: Logger;
}

/** Longer than an election takes. */
export const silentLimitMs = 15_000;
/** A server that has just started may have to hear of everything first. */
export const betweenRestartsMs = 60_000;

/** Whether the others can lead and agree while this server is down. */
export function goesOnWithout(nodeId: string, { leader, copies, current, behind }: StateHealth): boolean {
  const others = behind.includes(nodeId) ? current : current - 1;
  return leader !== nodeId && others >= Math.floor(copies / 2) + 1;
}
