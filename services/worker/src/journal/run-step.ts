import type { HearthErrorCode } from "@hearth/errors";

/** Who must change something before the same run can succeed. */
export type Blame = "user" | "platform";

/**
 * The closed set of what a step can answer. What is thrown counts as a `retry` with the thrown error as its
 * reason, or as an `abort` when the registry says that trying again cannot help.
 */
export type StepOutcome =
  | { readonly kind: "done" }
  | {
      readonly kind: "retry";
      readonly reason: string;
      readonly afterMs: number;
      /** What the run fails with when no attempt is left; `internal` when absent. */
      readonly code?: HearthErrorCode;
    }
  | {
      readonly kind: "abort";
      readonly code: HearthErrorCode;
      readonly reason: string;
      readonly blame: Blame;
    };

export interface RunContext {
  readonly runId: string;
  readonly machineId: string;
  /** Counts from 1, over the lives of several workers: on the first, nothing can have happened yet. */
  readonly attempt: number;
  /** Aborted when the step's limit is reached or the worker stops. */
  readonly signal: AbortSignal;
}

/**
 * One step of a run. Every function may be called again after a crash, with nothing but the host to tell
 * it how far the last call came; so `inspect` looks first, and `undo` takes what is absent as undone.
 */
export interface Step<Input> {
  /** Persisted: a worker of a later version resumes by this name, so it is never reused for another act. */
  readonly name: string;
  readonly limitMs: number;
  readonly maxAttempts: number;
  /** True when the host already shows the effect of this step. */
  inspect(input: Input, context: RunContext): Promise<boolean>;
  do(input: Input, context: RunContext): Promise<StepOutcome>;
  undo(input: Input, context: RunContext): Promise<void>;
}

export interface RunDefinition<Input> {
  /** Persisted, like the names of its steps. */
  readonly kind: string;
  /** In order; the steps of an inner list need nothing of each other and are done at the same time. */
  readonly steps: readonly (Step<Input> | readonly Step<Input>[])[];
}
