/**
 * What a machine needs next, from its record alone. Pure, and the only place that decides it: a request, an
 * exit, a timer and the start of a worker all end here.
 */
import { canApply } from "@hearth/machine";
import type { RunKind } from "../runs/machine-runs.ts";
import type { WorkerLimits } from "../worker-deps.ts";
import { hasToGo } from "./machine-rights.ts";
import type { MachineRow } from "./machine-row.ts";
import { type TurnAction, turnAction } from "./scheduled-turn.ts";

export type Action =
  | { readonly kind: "rest" }
  | { readonly kind: "wait"; readonly untilMs: number }
  /** Give up an unfinished run, and undo it. */
  | { readonly kind: "cancel" }
  | { readonly kind: "run"; readonly run: RunKind }
  /** Its start run is done, and the record does not say so yet. */
  | { readonly kind: "booted" }
  /** It may not run here (any more). */
  | { readonly kind: "give-way" }
  /** Its desired state asks for a start that nobody else will ask for. */
  | { readonly kind: "begin" }
  /** It runs, and still holds the image of a version that it will not go back to. */
  | { readonly kind: "release-images" }
  /** It runs, and may send by now what its slot does not say, or the other way round. */
  | { readonly kind: "change-egress" }
  | TurnAction
  /** Take back the fact of a machine that is gone. */
  | { readonly kind: "unpublish" }
  | { readonly kind: "purge" };

export interface Observed {
  readonly nowMs: number;
  readonly openRun: RunKind | undefined;
  /** The program, or the VM, has ended. */
  readonly ended: boolean;
  /** This node has the right to run it now. */
  readonly mayRun: boolean;
  /** The host goes down: nothing is started. */
  readonly draining: boolean;
  readonly unpublished: boolean;
  /** Images are held for versions that are not needed any more. */
  readonly staleImages: boolean;
  /** Its slot has another egress policy than its record. */
  readonly staleEgress: boolean;
  readonly limits: Pick<WorkerLimits, "destroyedFactMs" | "destroyedRowMs">;
}

export function nextAction(row: MachineRow, observed: Observed): Action {
  const { openRun, nowMs, mayRun } = observed;
  const draining = observed.draining || !mayRun;
  if (!mayRun && hasToGo(row, openRun === "machine-start")) return { kind: "give-way" };
  if (openRun === "machine-start" && row.state !== "starting") return { kind: "cancel" };
  if (openRun === "machine-down" && row.state === "destroying") return { kind: "cancel" };
  if (openRun !== undefined) return { kind: "run", run: openRun };
  switch (row.state) {
    case "destroyed":
      return afterDestroyed(row, observed);
    case "destroying":
      return { kind: "run", run: "machine-destroy" };
    case "started":
      if (observed.ended || row.handle === null) return { kind: "run", run: "machine-down" };
      if (observed.staleEgress) return { kind: "change-egress" };
      if (observed.staleImages) return { kind: "release-images" };
      return turnAction(row, nowMs, false) ?? { kind: "rest" };
    case "stopping":
    case "replacing":
      return { kind: "run", run: "machine-down" };
    case "starting":
      // A restart: the VM of before has to go first.
      if (row.stop !== null || row.exit !== null) return { kind: "run", run: "machine-down" };
      if (row.handle !== null) return { kind: "booted" };
      if (draining) return { kind: "rest" };
      return row.startAtMs > nowMs
        ? { kind: "wait", untilMs: row.startAtMs }
        : { kind: "run", run: "machine-start" };
    default:
      if (draining) return { kind: "rest" };
      if (row.desired === "started" && canApply(row.state, "start")) return { kind: "begin" };
      return turnAction(row, nowMs, canApply(row.state, "start")) ?? { kind: "rest" };
  }
}

function afterDestroyed(row: MachineRow, { nowMs, unpublished, limits }: Observed): Action {
  const untilMs = row.updatedMs + (unpublished ? limits.destroyedRowMs : limits.destroyedFactMs);
  if (untilMs > nowMs) return { kind: "wait", untilMs };
  return { kind: unpublished ? "purge" : "unpublish" };
}
