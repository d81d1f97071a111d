/**
 * The turns of a machine with a `schedule`: about once each period it is started, and is expected to end. Pure.
 *
 * - The turn that comes next is in the record. When it is due the machine starts, once, however many turns
 *   passed while nobody was there to start it; the one after it follows from the machine's creation.
 * - A machine that runs when its turn is due is left alone, and that turn is skipped.
 * - A turn is a start like any other: it makes the machine wanted (`desired`), and its end is for the restart
 *   policy, which by default leaves a machine that ended well at rest until its next turn.
 * - As in the Machines API, a machine that somebody stopped, or that failed, or that was never launched, has its
 *   next turn all the same. To end that, take its `schedule` away or destroy it; a cordon is about traffic.
 * - When the node has no room, the turn is tried again until there is, or until the next one is due.
 */
import { nextState, nextTurnMs } from "@hearth/machine";
import type { MachineRow, Turn } from "./machine-row.ts";
import type { Change } from "./machine-store.ts";

export type TurnAction =
  | { readonly kind: "wait"; readonly untilMs: number }
  /** The record does not name the next turn, or the machine runs through the one it names. */
  | { readonly kind: "plan-turn" }
  | { readonly kind: "begin-turn" };

const noRoomPauseMs = 60_000;

/** What the schedule of a machine asks for; undefined when it has none. */
export function turnAction(row: MachineRow, nowMs: number, canStart: boolean): TurnAction | undefined {
  if (row.turn?.schedule !== row.config.schedule) return { kind: "plan-turn" };
  if (row.turn === null) return undefined;
  if (row.turn.dueMs > nowMs) return { kind: "wait", untilMs: row.turn.dueMs };
  return { kind: canStart ? "begin-turn" : "plan-turn" };
}

export function turnAfter({ config, createdMs }: MachineRow, nowMs: number): Turn | null {
  const { schedule } = config;
  return schedule === undefined ? null : { schedule, dueMs: nextTurnMs(schedule, createdMs, nowMs) };
}

/** In the same change as the start, so that a worker that ends here does not start it twice. */
export function turnBegun(row: MachineRow, nowMs: number): Change {
  const start = { stop: null, exit: null, restarts: [], startAtMs: 0 } as const;
  return {
    set: {
      ...start,
      state: nextState(row.state, "start"),
      desired: "started",
      turn: turnAfter(row, nowMs),
    },
    events: [{ type: "start", source: "flyd" }],
  };
}

export function turnPostponed(row: MachineRow, nowMs: number): Turn | null {
  const next = turnAfter(row, nowMs);
  return next && { ...next, dueMs: Math.min(next.dueMs, nowMs + noRoomPauseMs) };
}
