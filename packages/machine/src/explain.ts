/** What a machine's worker did for it, run by run and step by step, as the API answers it. Times are RFC 3339. */

import type { PlacementReport } from "./placement.ts";

export const runStates = ["running", "undoing", "done", "failed"] as const;
export const runStepStates = ["begun", "done", "failed", "undone"] as const;

export interface RunStep {
  /** Names are stable: they are on the worker's disk. */
  readonly name: string;
  /** `failed` is the step that a run failed at; `undone` are those that were taken back because of it. */
  readonly state: (typeof runStepStates)[number];
  readonly attempts: number;
  readonly begun_at: string;
  /** Null while it has not ended. */
  readonly ended_at: string | null;
  /** Until now while it has not ended. */
  readonly duration_ms: number;
  /** Why it was tried again, or failed; null when nothing went wrong. */
  readonly reason: string | null;
}

/** Why a start failed. */
export interface StartError {
  /** Of the error registry. */
  readonly code: string;
  /** The step that it failed at. */
  readonly step: string;
  readonly message: string;
  /** Of that step. Absent in what workers before this version recorded. */
  readonly attempts?: number;
  /** The end of what the guest's kernel said: bounded, printable; empty when no VM was started. */
  readonly console_tail?: string;
}

export interface MachineRun {
  readonly run_id: string;
  /** `machine-start`, `machine-down` or `machine-destroy`. */
  readonly kind: string;
  readonly state: (typeof runStates)[number];
  readonly begun_at: string;
  readonly ended_at: string | null;
  readonly duration_ms: number;
  readonly error: StartError | null;
  /** In the order in which they were begun; some are done at the same time. */
  readonly steps: readonly RunStep[];
}

export interface MachineExplanation {
  readonly machine_id: string;
  readonly state: string;
  /** Newest first. */
  readonly runs: readonly MachineRun[];
  /** How its node was chosen; absent for a machine of an earlier version. */
  readonly placement?: PlacementReport;
}
