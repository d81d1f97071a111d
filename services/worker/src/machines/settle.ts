/** What a change of the host means for the record of a machine. Pure: row in, change out. */
import { HearthError } from "@hearth/errors";
import { decideRestart, exitEvent, type MachineExit, nextState, restartsInARow } from "@hearth/machine";
import { tailForEvent } from "../guest/console-tail.ts";
import type { RunOutcome } from "../journal/run-engine.ts";
import type { MachineRow } from "./machine-row.ts";
import type { Change, NewEvent } from "./machine-store.ts";
import { rollbackAfterBoot, rolledBack, startError } from "./update-rollback.ts";

/** Its VM is gone and nothing on the host is its any more but what it keeps. */
export function settled(row: MachineRow, nowMs: number): Change | undefined {
  const clear = { stop: null, exit: null } as const;
  const exit = row.exit === null ? undefined : { ...row.exit, requestedStop: row.stop !== null };
  const told = (restarting: boolean): { events: NewEvent[]; exit?: MachineExit } =>
    exit === undefined
      ? { events: [] }
      : {
          events: [{ type: "exit", source: "flyd", request: { exit_event: exitEvent(exit, restarting) } }],
          exit,
        };
  switch (row.state) {
    case "starting":
      return { set: { ...clear, startAtMs: 0 }, ...told(true) };
    case "replacing": {
      if (row.launch)
        return { set: { ...clear, state: nextState(row.state, "start"), startAtMs: 0 }, ...told(true) };
      return { set: { ...clear, state: nextState(row.state, "replace_completed") }, ...told(false) };
    }
    case "stopping":
      return ended(row, { set: { ...clear, state: nextState(row.state, "exited") }, ...told(false) });
    case "started":
      return exited(row, nowMs, exit, told);
    default:
      return row.stop === null && row.exit === null ? undefined : { set: clear };
  }
}

function exited(
  row: MachineRow,
  nowMs: number,
  exit: MachineExit | undefined,
  told: (restarting: boolean) => { events: NewEvent[]; exit?: MachineExit },
): Change {
  const clear = { stop: null, exit: null } as const;
  const restarts = exit === undefined ? [] : restartsInARow(row.restarts, exit, row.startedMs);
  const decision =
    exit === undefined
      ? ({ kind: "stop", reason: "policy" } as const)
      : decideRestart(row.config.restart, exit, restarts);
  if (decision.kind === "stop") {
    const set = {
      ...clear,
      state: nextState(row.state, "exited"),
      desired: "stopped",
      restarts: [],
    } as const;
    return ended({ ...row, desired: "stopped" }, { set, ...told(false) });
  }
  const { events, ...rest } = told(true);
  const restart: NewEvent = { type: "restart", source: "flyd", request: { restart_count: decision.attempt } };
  return {
    set: {
      ...clear,
      state: nextState(row.state, "restart"),
      restarts: [...restarts, nowMs],
      startAtMs: nowMs + decision.afterMs,
    },
    events: [...events, restart],
    ...rest,
  };
}

/** A machine that destroys itself does so when it has ended for good, and not when its host goes down. */
function ended(row: MachineRow, change: Change): Change {
  if (row.config.auto_destroy !== true || row.desired === "started") return change;
  return {
    ...change,
    set: { ...change.set, state: nextState(change.set.state ?? row.state, "destroy"), desired: "destroyed" },
    events: [...(change.events ?? []), { type: "destroy", source: "flyd" }],
  };
}

/** Its start run is done. A request that came meanwhile wins. */
export function booted(row: MachineRow, nowMs: number): Change | undefined {
  if (row.state !== "starting" || row.stop !== null) return undefined;
  const set = {
    state: nextState(row.state, "booted"),
    rollback: rollbackAfterBoot(row),
    startedMs: nowMs,
    checks: null,
  };
  return { set, events: [{ type: "start", source: "flyd" }] };
}

/** Its start run failed, and all that it had made is gone again. A version before it is taken up again. */
export function failed(
  row: MachineRow,
  outcome: Extract<RunOutcome, { kind: "failed" }>,
): Change | undefined {
  if (row.state !== "starting") return undefined;
  const { code, step, reason, attempts, consoleTail } = outcome;
  const message = reason === "" ? new HearthError(code).message : reason;
  const error = { code, step, message, attempts, console_tail: tailForEvent(consoleTail) };
  const back = rolledBack(row, error);
  if (back !== undefined) return back;
  return {
    set: { state: nextState(row.state, "fail"), desired: "stopped", stop: null, exit: null },
    events: [{ type: "failed", source: "flyd", request: { error: startError(row, error) } }],
  };
}
