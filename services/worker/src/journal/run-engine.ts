/**
 * Runs a list of named steps, so that the process may die between any two instructions.
 *
 * Before an act, `begun` is on disk; after it, `done`. A run that is found unfinished goes on at its first
 * step that is not done, by the same code that runs it the first time. What was begun and not marked done
 * may or may not have happened: `inspect` tells, and an effect that is there is not made twice. When a
 * step aborts, every step that was begun is undone, last first, and the run fails with its reason.
 */
import type { DatabaseSync } from "node:sqlite";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import { limitAct } from "./act-limit.ts";
import { crashPoint } from "./crash-point.ts";
import { splitReason } from "./run-history.ts";
import type { RunContext, RunDefinition, Step, StepOutcome } from "./run-step.ts";

export type RunOutcome =
  | { readonly kind: "done" }
  | {
      readonly kind: "failed";
      readonly code: HearthErrorCode;
      readonly step: string;
      readonly reason: string;
      /** Of that step. */
      readonly attempts: number;
      readonly consoleTail: string;
    };

export interface RunEngineDeps {
  readonly database: DatabaseSync;
  readonly nowMs: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /**
   * Asked when a run has failed and before anything of it is undone.
   * @param begun the names of the steps that may have had an effect
   */
  readonly consoleTail?: (machineId: string, begun: readonly string[]) => Promise<string>;
  /** What undoing one step may take. */
  readonly undoMs?: number;
  /** How long an act that was told to stop is waited for, before anything else is done. */
  readonly abandonMs?: number;
  /** What a step threw: the outcome keeps its public text, and the cause is for the logs. */
  readonly onThrown?: (error: HearthError, step: string, context: RunContext) => void;
}

const defaultUndoMs = 30_000;
const defaultAbandonMs = 10_000;

type Abort = Extract<StepOutcome, { kind: "abort" }>;

interface Failed {
  readonly step: string;
  readonly abort: Abort;
  readonly consoleTail: string;
}

export class RunEngine {
  readonly #deps: RunEngineDeps;

  constructor(deps: RunEngineDeps) {
    this.#deps = deps;
  }

  /** Records the wish. Nothing has happened on the host when this returns, and nothing can forget it. */
  record(run: { runId: string; machineId: string; kind: string; input: unknown }): void {
    const { database, nowMs } = this.#deps;
    const open = database
      .prepare("SELECT run_id FROM runs WHERE machine_id = ? AND state IN ('running', 'undoing')")
      .get(run.machineId);
    if (open?.run_id === run.runId) return;
    if (open !== undefined) throw new HearthError("conflict", { details: { open_run: String(open.run_id) } });
    crashPoint(`record ${run.kind}`, "before");
    database
      .prepare(
        "INSERT INTO runs (run_id, machine_id, kind, input, state, created_ms) VALUES (?, ?, ?, ?, 'running', ?)",
      )
      .run(run.runId, run.machineId, run.kind, JSON.stringify(run.input), nowMs());
    crashPoint(`record ${run.kind}`, "after");
  }

  /** The runs that a worker which starts has to take up again. */
  unfinished(): { runId: string; kind: string }[] {
    return this.#deps.database
      .prepare(
        "SELECT run_id, kind FROM runs WHERE state IN ('running', 'undoing') ORDER BY created_ms, rowid",
      )
      .all()
      .map((row) => ({ runId: String(row.run_id), kind: String(row.kind) }));
  }

  openRunOf(machineId: string): { runId: string; kind: string } | undefined {
    const row = this.#deps.database
      .prepare("SELECT run_id, kind FROM runs WHERE machine_id = ? AND state IN ('running', 'undoing')")
      .get(machineId);
    return row === undefined ? undefined : { runId: String(row.run_id), kind: String(row.kind) };
  }

  /** Forgets all but the newest runs of a machine. */
  prune(machineId: string, keep: number): void {
    this.#deps.database
      .prepare(
        `DELETE FROM runs WHERE machine_id = ?1 AND state IN ('done', 'failed') AND rowid NOT IN (
           SELECT rowid FROM runs WHERE machine_id = ?1 ORDER BY rowid DESC LIMIT ?2)`,
      )
      .run(machineId, keep);
  }

  /** Takes a recorded run to its end. Throws only when `signal` aborts; the run then stays open. */
  async resume<Input>(
    runId: string,
    definition: RunDefinition<Input>,
    signal: AbortSignal,
  ): Promise<RunOutcome> {
    const row = this.#deps.database.prepare("SELECT * FROM runs WHERE run_id = ?").get(runId);
    if (row === undefined)
      throw new HearthError("not_found", { message: `There is no run ${runId}; record it first.` });
    const input = JSON.parse(String(row.input)) as Input;
    const context = { runId, machineId: String(row.machine_id), attempt: 1, signal };
    if (row.state === "done") return { kind: "done" };
    if (row.state === "running") {
      for (const stage of definition.steps) {
        const failed = await this.#stage([stage].flat(), input, context);
        if (failed !== undefined) {
          const tail = await this.#deps.consoleTail?.(context.machineId, this.#begunSteps(runId));
          this.#endRun(runId, "undoing", { ...failed, consoleTail: tail ?? "" });
          break;
        }
      }
      if (this.#runState(runId) === "running") {
        this.#endRun(runId, "done");
        return { kind: "done" };
      }
    }
    await this.#undoAll(definition, input, context);
    return this.#failure(runId);
  }

  /** Gives up a run that nobody wants any more: the next `resume` undoes it. */
  cancel(runId: string): void {
    this.#deps.database
      .prepare(
        "UPDATE runs SET state = 'undoing', error_code = 'cancelled', reason = ? WHERE run_id = ? AND state = 'running'",
      )
      .run("cancelled\nIt is no longer wanted.", runId);
  }

  /** All steps of a stage come to an end before the first that aborted counts, so that undoing meets no act. */
  async #stage<Input>(
    steps: readonly Step<Input>[],
    input: Input,
    context: RunContext,
  ): Promise<{ readonly step: string; readonly abort: Abort } | undefined> {
    const open = steps.filter(({ name }) => this.#stepState(context.runId, name) !== "done");
    const outcomes = await Promise.allSettled(open.map((step) => this.#complete(step, input, context)));
    context.signal.throwIfAborted();
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome.status === "rejected") throw outcome.reason;
      const step = open[index]?.name ?? "";
      if (outcome.value !== undefined) return { step, abort: outcome.value };
    }
    return undefined;
  }

  async #complete<Input>(step: Step<Input>, input: Input, context: RunContext): Promise<Abort | undefined> {
    for (;;) {
      crashPoint(`begin ${step.name}`, "before");
      const attempts = this.#begin(context.runId, step.name);
      crashPoint(`act ${step.name}`, "before");
      const outcome = await this.#attempt(step, input, { ...context, attempt: attempts });
      context.signal.throwIfAborted();
      crashPoint(`act ${step.name}`, "after");
      if (outcome.kind === "done") {
        this.#mark(context.runId, step.name, "done");
        crashPoint(`done ${step.name}`, "after");
        return undefined;
      }
      this.#note(context.runId, step.name, outcome.reason);
      if (outcome.kind === "abort") {
        this.#end(context.runId, step.name);
        return outcome;
      }
      if (attempts >= step.maxAttempts) {
        this.#end(context.runId, step.name);
        const code = outcome.code ?? "internal";
        return { kind: "abort", code, blame: "platform", reason: outcome.reason };
      }
      await this.#deps.sleep(outcome.afterMs, context.signal);
    }
  }

  async #attempt<Input>(step: Step<Input>, input: Input, context: RunContext): Promise<StepOutcome> {
    const { abandonMs = defaultAbandonMs } = this.#deps;
    const { limitMs } = step;
    const act = await limitAct<StepOutcome>(
      { limitMs, abandonMs, signal: context.signal },
      async (signal) => {
        const limited = { ...context, signal };
        if (await step.inspect(input, limited)) return { kind: "done" };
        signal.throwIfAborted(); // the limit came while the host was looked at
        // Inside of the act, so that what a drill throws here is what the step failed with.
        crashPoint(`do ${step.name}`, "before");
        const outcome = await step.do(input, limited);
        crashPoint(`do ${step.name}`, "after");
        return outcome;
      },
    );
    if (act.kind === "settled") return act.value;
    const error = act.kind === "thrown" ? act.error : new HearthError("deadline_exceeded");
    this.#deps.onThrown?.(error, step.name, context);
    if (act.kind === "thrown") return thrownOutcome(error);
    // It may still act, so it must not be begun beside itself.
    const reason = `deadline_exceeded: It did not end within ${limitMs / 1000} s, nor when it was told to stop.`;
    return { kind: "abort", code: "deadline_exceeded", reason, blame: "platform" };
  }

  async #undoAll<Input>(definition: RunDefinition<Input>, input: Input, context: RunContext): Promise<void> {
    for (const step of definition.steps.flat().toReversed()) {
      const state = this.#stepState(context.runId, step.name);
      if (state === undefined || state === "undone") continue;
      crashPoint(`undo ${step.name}`, "before");
      await this.#undo(step, input, context);
      crashPoint(`undo ${step.name}`, "after");
      this.#mark(context.runId, step.name, "undone");
    }
    this.#deps.database
      .prepare("UPDATE runs SET state = 'failed', ended_ms = ? WHERE run_id = ?")
      .run(this.#deps.nowMs(), context.runId);
  }

  async #undo<Input>(step: Step<Input>, input: Input, context: RunContext): Promise<void> {
    const { undoMs = defaultUndoMs, abandonMs = defaultAbandonMs } = this.#deps;
    const limits = { limitMs: undoMs, abandonMs, signal: context.signal };
    const act = await limitAct(limits, (signal) => step.undo(input, { ...context, signal }));
    if (act.kind === "settled") return;
    throw act.kind === "thrown"
      ? act.error
      : new HearthError("deadline_exceeded", { message: `${step.name} could not be undone in time.` });
  }

  #begin(runId: string, name: string): number {
    const row = this.#deps.database
      .prepare(
        `INSERT INTO steps (run_id, name, state, attempts, begun_ms) VALUES (?, ?, 'begun', 1, ?)
         ON CONFLICT DO UPDATE SET attempts = attempts + 1, ended_ms = NULL RETURNING attempts`,
      )
      .get(runId, name, this.#deps.nowMs());
    return Number(row?.attempts);
  }

  /** When a step ended is when its act did: undoing it later does not change how long it took. */
  #mark(runId: string, name: string, state: "done" | "undone"): void {
    this.#deps.database
      .prepare("UPDATE steps SET state = ?, ended_ms = COALESCE(ended_ms, ?) WHERE run_id = ? AND name = ?")
      .run(state, this.#deps.nowMs(), runId, name);
  }

  #end(runId: string, name: string): void {
    this.#deps.database
      .prepare("UPDATE steps SET ended_ms = ? WHERE run_id = ? AND name = ?")
      .run(this.#deps.nowMs(), runId, name);
  }

  #begunSteps(runId: string): string[] {
    return this.#deps.database
      .prepare("SELECT name FROM steps WHERE run_id = ?")
      .all(runId)
      .map(({ name }) => String(name));
  }

  #note(runId: string, name: string, reason: string): void {
    this.#deps.database
      .prepare("UPDATE steps SET reason = ? WHERE run_id = ? AND name = ?")
      .run(reason, runId, name);
  }

  #endRun(runId: string, state: "done" | "undoing", failed?: Failed): void {
    const reason = failed === undefined ? null : `${failed.step}\n${failed.abort.reason}`;
    const endedMs = state === "done" ? this.#deps.nowMs() : null;
    crashPoint(`end run ${state}`, "before");
    this.#deps.database
      .prepare(
        "UPDATE runs SET state = ?, error_code = ?, reason = ?, console_tail = ?, ended_ms = ? WHERE run_id = ?",
      )
      .run(state, failed?.abort.code ?? null, reason, failed?.consoleTail ?? null, endedMs, runId);
    crashPoint(`end run ${state}`, "after");
  }

  #stepState(runId: string, name: string): unknown {
    return this.#deps.database
      .prepare("SELECT state FROM steps WHERE run_id = ? AND name = ?")
      .get(runId, name)?.state;
  }

  #runState(runId: string): unknown {
    return this.#deps.database.prepare("SELECT state FROM runs WHERE run_id = ?").get(runId)?.state;
  }

  #failure(runId: string): RunOutcome {
    const row = this.#deps.database
      .prepare("SELECT error_code, reason, console_tail FROM runs WHERE run_id = ?")
      .get(runId);
    const { step, reason } = splitReason(row?.reason);
    const failed = this.#deps.database
      .prepare("SELECT attempts FROM steps WHERE run_id = ? AND name = ?")
      .get(runId, step);
    return {
      kind: "failed",
      code: String(row?.error_code) as HearthErrorCode,
      step,
      reason,
      attempts: Number(failed?.attempts ?? 0),
      consoleTail: String(row?.console_tail ?? ""),
    };
  }
}

function thrownOutcome(error: HearthError): StepOutcome {
  const { code, message } = error;
  if (error.retryable) return { kind: "retry", code, reason: `${code}: ${message}`, afterMs: 100 };
  return { kind: "abort", code, reason: message, blame: error.status < 500 ? "user" : "platform" };
}
