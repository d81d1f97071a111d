/** The runs of a machine as they are told: the tables of the journal, read and never written. */
import type { DatabaseSync } from "node:sqlite";
import type { MachineRun, RunStep } from "@hearth/machine";

type Row = Readonly<Record<string, unknown>>;

const instant = (ms: unknown): string => new Date(Number(ms)).toISOString();

/** The newest runs, newest first. */
export function runHistory(
  database: DatabaseSync,
  machineId: string,
  { limit, nowMs }: { readonly limit: number; readonly nowMs: number },
): MachineRun[] {
  const steps = database.prepare("SELECT * FROM steps WHERE run_id = ? ORDER BY begun_ms, rowid");
  return database
    .prepare("SELECT * FROM runs WHERE machine_id = ? ORDER BY rowid DESC LIMIT ?")
    .all(machineId, limit)
    .map((run) => runOf(run, steps.all(String(run.run_id)), nowMs));
}

function runOf(run: Row, steps: readonly Row[], nowMs: number): MachineRun {
  const failure = run.error_code === null ? undefined : splitReason(run.reason);
  const failedStep = steps.find(({ name }) => name === failure?.step);
  return {
    run_id: String(run.run_id),
    kind: String(run.kind),
    state: run.state as MachineRun["state"],
    ...lasting(run.created_ms, run.ended_ms, nowMs),
    error:
      failure === undefined
        ? null
        : {
            code: String(run.error_code),
            step: failedStep === undefined ? "" : failure.step,
            message: failure.reason,
            attempts: Number(failedStep?.attempts ?? 0),
            console_tail: String(run.console_tail ?? ""),
          },
    steps: steps.map((step) => stepOf(step, step === failedStep, nowMs)),
  };
}

function stepOf(step: Row, failed: boolean, nowMs: number): RunStep {
  return {
    name: String(step.name),
    state: failed ? "failed" : (step.state as RunStep["state"]),
    attempts: Number(step.attempts),
    ...lasting(step.begun_ms, step.ended_ms, nowMs),
    reason: step.reason === null ? null : String(step.reason),
  };
}

/** A clock that was set back meanwhile makes no negative time. */
function lasting(begunMs: unknown, endedMs: unknown, nowMs: number) {
  const end = endedMs === null ? nowMs : Number(endedMs);
  return {
    begun_at: instant(begunMs),
    ended_at: endedMs === null ? null : instant(endedMs),
    duration_ms: Math.max(0, end - Number(begunMs)),
  };
}

/** A run keeps the step that it failed at on the first line of its reason. */
export function splitReason(stored: unknown): { readonly step: string; readonly reason: string } {
  const [step = "", ...reason] = String(stored ?? "").split("\n");
  return { step, reason: reason.join("\n") };
}
