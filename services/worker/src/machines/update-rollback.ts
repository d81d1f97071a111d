/**
 * An update whose version cannot start takes the machine back to the version before it. Pure: row in, change out.
 *
 * What to go back to is in the row from the update to the first time that its version runs, with the image held,
 * so that going back needs no registry and runs the same bytes. The way back is a replacement like the update
 * itself, by the same run, and a worker that is killed anywhere on it goes on from the row.
 */
import { HearthError } from "@hearth/errors";
import { type FailedUpdate, type MachineEvent, nextState } from "@hearth/machine";
import type { MachineRow, Rollback } from "./machine-row.ts";
import type { Change } from "./machine-store.ts";

type StartError = NonNullable<NonNullable<MachineEvent["request"]>["error"]>;

/** An update that is asked for again after it was rolled back. @throws HearthError `update_rolled_back` */
export function refuseRolledBack({ rollback }: MachineRow, instanceId: string): void {
  if (rollback?.kind !== "from" || rollback.failed.version !== instanceId) return;
  const { code, step, message } = rollback.failed;
  throw new HearthError("update_rolled_back", {
    message: `The version ${instanceId} could not start and was rolled back: ${message}`,
    details: { code, step },
  });
}

/** @param row as it is when the update is asked for */
export function rollbackTarget(row: MachineRow): Rollback | null {
  // A version that failed is nothing to go back to; what is wrong with the new one is then the news.
  if (row.state === "failed") return null;
  const { instanceId, config, image } = row;
  return { kind: "to", instanceId, config, image, ran: row.state === "started" };
}

/** The start run of the version of now failed. Undefined when there is no version to go back to. */
export function rolledBack(row: MachineRow, error: StartError): Change | undefined {
  if (row.rollback?.kind !== "to") return undefined;
  const { instanceId, config, image, ran } = row.rollback;
  const failed: FailedUpdate = { version: row.instanceId, ...error };
  return {
    set: {
      ...{ instanceId, config, image, launch: ran, desired: ran ? "started" : "stopped" },
      ...{ state: nextState(row.state, "roll_back"), stop: null, exit: null, restarts: [], startAtMs: 0 },
      rollback: { kind: "from", failed, pending: true },
    },
    events: [
      {
        type: "update",
        source: "flyd",
        request: { error, rolled_back: { from: row.instanceId, to: instanceId } },
      },
    ],
  };
}

/** Why a machine failed; both reasons, when it failed on the way back. */
export function startError(row: MachineRow, error: StartError): StartError {
  if (row.rollback?.kind !== "from" || !row.rollback.pending) return error;
  const { version, step, message } = row.rollback.failed;
  return {
    ...error,
    message: `The version ${row.instanceId} could not be started again: ${error.message} It was to replace ${version}, which failed at ${step}: ${message}`,
  };
}

/** The version of now runs: there is nothing to go back to any more, and only what failed is remembered. */
export function rollbackAfterBoot({ rollback }: MachineRow): Rollback | null {
  return rollback?.kind === "from" ? { ...rollback, pending: false } : null;
}
