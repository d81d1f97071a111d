export { openJournal } from "./src/journal.ts";
export { Ledger, type Resource } from "./src/ledger.ts";
export { RunEngine, type RunOutcome } from "./src/run-engine.ts";
export type { Blame, RunContext, RunDefinition, Step, StepOutcome } from "./src/run-step.ts";
