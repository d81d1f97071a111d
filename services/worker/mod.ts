// What drills and measurements run: a node of its own, and the operations of a machine.
export { drillArguments, onProgress, printReport } from "./src/drill/drill-arguments.ts";
export { busyboxImage, DrillNode, eventually, hostImage } from "./src/drill/drill-node.ts";
export { newDrillMachine, operations, recordOf } from "./src/drill/operations.ts";
export { seeded } from "./src/drill/seeded.ts";
export { openJournal } from "./src/journal/journal.ts";
export { Ledger, type Resource } from "./src/journal/ledger.ts";
export { RunEngine, type RunOutcome } from "./src/journal/run-engine.ts";
export type { Blame, RunContext, RunDefinition, Step, StepOutcome } from "./src/journal/run-step.ts";
export { SlotPool, type SlotPoolDeps } from "./src/slots/slot-pool.ts";
