/**
 * The life of a machine as one table of legal edges.
 *
 * A state changes only through an event, and only along an edge of this table; what is not listed is
 * refused. Nothing else in Hearth decides which state follows which. `destroying` has no way back and no
 * failure: it is retried until nothing is left.
 */
import { HearthError } from "@hearth/errors";

export const machineStates = [
  "created",
  "starting",
  "started",
  "stopping",
  "stopped",
  "suspending",
  "suspended",
  "replacing",
  "destroying",
  "destroyed",
  "failed",
] as const;
export type MachineState = (typeof machineStates)[number];

/**
 * Requests: `start stop restart suspend replace destroy`. Facts: `booted` (the guest runs), `exited` (the
 * VM is gone and stays so), `suspend_completed`, `suspend_abandoned` (the guest was let run on),
 * `replace_completed` (the new version is in place, not launched), `roll_back` (the new version cannot start, so
 * it is replaced by the one before it), `destroy_completed`, `fail` (cannot go on).
 */
export const machineStateEvents = [
  "start",
  "booted",
  "stop",
  "restart",
  "exited",
  "suspend",
  "suspend_completed",
  "suspend_abandoned",
  "replace",
  "replace_completed",
  "roll_back",
  "destroy",
  "destroy_completed",
  "fail",
] as const;
export type MachineStateEvent = (typeof machineStateEvents)[number];

type Edges = { readonly [event in MachineStateEvent]?: MachineState };

const discard = { destroy: "destroying" } as const;

export const machineStateEdges: { readonly [state in MachineState]: Edges } = {
  created: { start: "starting", replace: "replacing", fail: "failed", ...discard },
  starting: {
    booted: "started",
    exited: "stopped",
    stop: "stopping",
    restart: "starting",
    roll_back: "replacing",
    fail: "failed",
    ...discard,
  },
  started: {
    stop: "stopping",
    // One edge for exit and start, so that a restart never looks like a stop to someone who waits for one.
    restart: "starting",
    exited: "stopped",
    suspend: "suspending",
    replace: "replacing",
    fail: "failed",
    ...discard,
  },
  stopping: { exited: "stopped", fail: "failed", ...discard },
  stopped: { start: "starting", replace: "replacing", fail: "failed", ...discard },
  suspending: {
    suspend_completed: "suspended",
    suspend_abandoned: "started",
    exited: "stopped",
    fail: "failed",
    ...discard,
  },
  // `stop` gives up the saved memory.
  suspended: { start: "starting", stop: "stopping", replace: "replacing", fail: "failed", ...discard },
  replacing: { start: "starting", replace_completed: "stopped", fail: "failed", ...discard },
  destroying: { destroy_completed: "destroyed" },
  destroyed: {},
  failed: { start: "starting", replace: "replacing", ...discard },
};

/** States in which a machine may rest; every other state is on its way to one of these. */
export const settledStates: ReadonlySet<MachineState> = new Set([
  "created",
  "started",
  "stopped",
  "suspended",
  "failed",
  "destroyed",
]);

export const isSettled = (state: MachineState): boolean => settledStates.has(state);

export const canApply = (state: MachineState, event: MachineStateEvent): boolean =>
  machineStateEdges[state][event] !== undefined;

/** @throws HearthError `illegal_transition` for an event that the table does not list for the state. */
export function nextState(state: MachineState, event: MachineStateEvent): MachineState {
  const next = machineStateEdges[state][event];
  if (next !== undefined) return next;
  throw new HearthError("illegal_transition", {
    message: `A machine that is ${state} cannot take "${event}"; wait or look at its state.`,
    details: { state, event, legal: Object.keys(machineStateEdges[state]) },
  });
}
