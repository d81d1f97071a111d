/**
 * What recording one step of a run costs, beside a bare insert.
 *
 * step:      from one step's act to the next one's through the worker's own engine: `done` of the one and `begun`
 *            of the other, each a commit, as the worker records them (WAL, synchronous=NORMAL).
 * step_full: the same with synchronous=FULL, so that both commits are on the disk by fsync.
 * insert:    one row into a table of one column, with synchronous=FULL: what the disk makes everybody pay.
 *
 * The three take turns in one run and on one file system, that of the repository. `runs` is how many turns are
 * taken, of 50 each.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { repositoryRoot } from "@hearth/testkit";
import { openJournal, RunEngine, type Step } from "@hearth/worker";
import { medianOf } from "./median.ts";

const perTurn = 50;
const never = new AbortController().signal;

/** The times between the acts of a run of empty steps. */
async function stepTimes(engine: RunEngine, runId: string): Promise<number[]> {
  const acts: number[] = [];
  const step = (name: string): Step<object> => ({
    ...{ name, limitMs: 60_000, maxAttempts: 1 },
    inspect: async () => false,
    do: async () => {
      acts.push(performance.now());
      return { kind: "done" };
    },
    undo: async () => undefined,
  });
  const steps = Array.from({ length: perTurn + 1 }, (_, index) => step(`step-${index}`));
  engine.record({ runId, machineId: runId, kind: "bench", input: {} });
  const outcome = await engine.resume(runId, { kind: "bench", steps }, never);
  if (outcome.kind !== "done") throw new Error(`the run failed: ${outcome.reason}`);
  return acts.slice(1).map((at, index) => at - (acts[index] ?? 0));
}

function insertTimes(database: DatabaseSync): number[] {
  const insert = database.prepare("INSERT INTO bare (value) VALUES (?)");
  return Array.from({ length: perTurn }, (_, index) => {
    const begun = performance.now();
    insert.run(index);
    return performance.now() - begun;
  });
}

export async function measureJournal(runs: number): Promise<Record<string, unknown>> {
  const parent = join(repositoryRoot, ".hearth");
  mkdirSync(parent, { recursive: true });
  const directory = mkdtempSync(join(parent, "bench-journal-"));
  const opened: DatabaseSync[] = [];
  const open = (name: string, synchronous: "NORMAL" | "FULL"): DatabaseSync => {
    const database = openJournal(join(directory, name));
    database.exec(`PRAGMA synchronous = ${synchronous}`);
    opened.push(database);
    return database;
  };
  try {
    const engineOf = (database: DatabaseSync) =>
      new RunEngine({ database, nowMs: () => Date.now(), sleep: async () => undefined });
    const normal = engineOf(open("normal.db", "NORMAL"));
    const full = engineOf(open("full.db", "FULL"));
    const bare = open("bare.db", "FULL");
    bare.exec("CREATE TABLE bare (value INTEGER NOT NULL) STRICT");
    const times = { step: [] as number[], stepFull: [] as number[], insert: [] as number[] };
    for (let turn = 0; turn < runs; turn += 1) {
      times.step.push(...(await stepTimes(normal, `normal-${turn}`)));
      times.stepFull.push(...(await stepTimes(full, `full-${turn}`)));
      times.insert.push(...insertTimes(bare));
    }
    const stepMs = medianOf(times.step, 3);
    const stepFullMs = medianOf(times.stepFull, 3);
    const insertMs = medianOf(times.insert, 3);
    const over = (ms: number): number => Math.round((ms / insertMs) * 100) / 100;
    return {
      runs,
      step_ms: stepMs,
      step_full_ms: stepFullMs,
      insert_ms: insertMs,
      ratio: over(stepMs),
      ratio_full: over(stepFullMs),
    };
  } finally {
    for (const database of opened) database.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
