/**
 * Waiting for a state, from the replica. A state that was reached before the call counts, and a machine that is
 * gone has been destroyed. Who waits for a version that was replaced is told so, because it cannot come back.
 */
import { HearthError } from "@hearth/errors";
import { type FailedUpdate, isSettled, type MachineFact, type MachineState } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import { type ClusterView, machineNotFound } from "../state/cluster-view.ts";
import { untilMachine } from "./machine-access.ts";

export type WaitedState = MachineState | "settled";

export interface Wait {
  readonly states: readonly WaitedState[];
  readonly timeoutMs: number;
  /** Which version is meant; any, when absent. */
  readonly instanceId?: string | undefined;
  /** States that the machine had no later than this event do not count. */
  readonly fromEventId?: string | undefined;
}

type Outcome = { readonly state: MachineState } | { readonly error: HearthError } | undefined;

/**
 * @throws HearthError `deadline_exceeded`, `machine_not_found`, `conflict` for a version that was replaced,
 * `update_rolled_back` and `illegal_transition` for one that cannot start
 */
export async function waitForMachine(
  { view }: Pick<ApiContext, "view">,
  known: MachineFact,
  wait: Wait,
  signal: AbortSignal,
): Promise<MachineState> {
  const { id } = known.record;
  let last = known;
  let outcome: Outcome;
  const look = (fact: MachineFact | undefined): boolean => {
    last = fact ?? last;
    outcome = fact === undefined ? outcomeOfGone(id, wait) : outcomeOf(fact, wait);
    return outcome !== undefined;
  };
  await untilMachine(view, id, look, wait.timeoutMs, signal);
  if (outcome === undefined) throw timedOut(last, wait);
  if ("error" in outcome) throw outcome.error;
  return outcome.state;
}

/**
 * The machine, which may have been made a moment ago through another API: while this one says that it has not heard of it,
 * it is waited for.
 * @throws HearthError as `ClusterView.machine`, at the limit too
 */
export async function heardMachine(
  view: ClusterView,
  { app, id }: { readonly app: string; readonly id: string },
  limitMs: number,
  signal: AbortSignal,
): Promise<MachineFact> {
  try {
    return view.machine(app, id);
  } catch (error) {
    if (HearthError.from(error).code !== "unavailable") throw error;
    await untilMachine(view, id, (fact) => fact !== undefined, limitMs, signal);
    return view.machine(app, id);
  }
}

export function outcomeOf({ record, failed_update }: MachineFact, wait: Wait): Outcome {
  const { state, instance_id, events } = record;
  if (wait.instanceId !== undefined && failed_update !== undefined && state !== "destroyed") {
    // Later than the version that is back, and no later than the one that failed: it will not come any more.
    if (wait.instanceId > instance_id && wait.instanceId <= failed_update.version)
      return { error: rolledBack(instance_id, failed_update) };
  }
  // Ids of versions sort by time: a later one than the machine has is still on its way here.
  if (wait.instanceId !== undefined && wait.instanceId > instance_id) return undefined;
  if (wait.instanceId !== undefined && wait.instanceId < instance_id && state !== "destroyed")
    return {
      error: new HearthError("conflict", {
        message: `The version ${wait.instanceId} is not there: it was or is currently replaced by ${instance_id}; wait for that one.`,
        details: { instance_id },
      }),
    };
  const isNews = wait.fromEventId === undefined || events[0]?.id !== wait.fromEventId;
  if (isNews && wait.states.some((wanted) => (wanted === "settled" ? isSettled(state) : wanted === state)))
    return { state };
  // A version that failed stays so until somebody asks for something else.
  if (wait.instanceId === instance_id && state === "failed")
    return {
      error: new HearthError("illegal_transition", {
        message: `machine failed to reach desired state, ${wait.states.join(" or ")}: the version ${instance_id} is failed; look at the machine's events.`,
        details: { state, wanted: wait.states },
      }),
    };
  // Nothing follows on destroyed, so waiting for anything else is over.
  return state === "destroyed" ? { error: machineNotFound(record.id) } : undefined;
}

function rolledBack(instanceId: string, { version, code, step, message }: FailedUpdate): HearthError {
  return new HearthError("update_rolled_back", {
    message: `The version ${version} could not start at ${step} (${code}), so ${instanceId} is back: ${message} Correct the configuration and update again.`,
    details: { failed_version: version, instance_id: instanceId, code, step },
  });
}

const outcomeOfGone = (id: string, wait: Wait): Outcome =>
  wait.states.includes("destroyed") || wait.states.includes("settled")
    ? { state: "destroyed" }
    : { error: machineNotFound(id) };

// Clients match on the words "machine failed to reach desired state".
const timedOut = ({ record }: MachineFact, wait: Wait): HearthError =>
  new HearthError("deadline_exceeded", {
    message: `deadline_exceeded: machine failed to reach desired state, ${wait.states.join(" or ")}, currently ${record.state}`,
    details: { state: record.state, wanted: wait.states },
  });
