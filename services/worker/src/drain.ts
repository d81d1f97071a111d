/**
 * Takes all machines off the host before it goes down. What is wanted of them stays as it is, so the next
 * worker starts again what ran; this one starts nothing any more.
 */
import { HearthError } from "@hearth/errors";
import { canApply, nextState } from "@hearth/machine";
import Type from "typebox";
import Value from "typebox/value";
import type { RunEngine } from "./journal/run-engine.ts";
import type { RunParts } from "./runs/run-parts.ts";
import { type SlotPool, slotKind } from "./slots/slot-pool.ts";

/** The request of the command `stop-all`, which only the host's own agent sends. */
export const StopAll = Type.Object(
  { timeout_ms: Type.Integer({ minimum: 0, maximum: 3_600_000 }) },
  { additionalProperties: false },
);
export type StopAll = Type.Static<typeof StopAll>;

/** What taking away disks and networks may take after the last program has ended. */
const teardownMs = 25_000;

/** @throws HearthError `invalid_argument` */
export function parseStopAll(payload: unknown): StopAll {
  if (Value.Check(StopAll, payload)) return payload;
  throw new HearthError("invalid_argument", {
    message: "stop-all needs timeout_ms, a whole number of milliseconds.",
    details: { field: "timeout_ms" },
  });
}

export interface DrainDeps {
  readonly parts: RunParts;
  readonly engine: RunEngine;
  readonly slots: Pick<SlotPool, "drain" | "resume">;
  readonly until: (condition: () => boolean, signal: AbortSignal) => Promise<void>;
}

/** @throws HearthError `deadline_exceeded` naming the machines that are still there */
export async function drainMachines(
  { parts, engine, slots, until }: DrainDeps,
  { timeout_ms }: StopAll,
  signal: AbortSignal,
): Promise<{ readonly stopped: number }> {
  const { store, ledger } = parts;
  let stopped = 0;
  for (const { machineId, state } of store.all()) {
    if (!canApply(state, "stop") || state === "suspended") continue;
    stopped += 1;
    store.change(machineId, (row) => ({
      set: { state: nextState(row.state, "stop"), stop: { timeoutMs: timeout_ms } },
      events: [{ type: "stop", source: "flyd" }],
    }));
  }
  const onHost = (): string[] =>
    store
      .all()
      .filter(
        ({ machineId, handle }) =>
          handle !== null ||
          engine.openRunOf(machineId) !== undefined ||
          ledger.ofMachine(machineId).some(({ kind }) => kind === slotKind || kind === "vm"),
      )
      .map(({ machineId }) => machineId);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeout_ms + teardownMs)]);
  try {
    await until(() => onHost().length === 0, limit);
  } catch (cause) {
    throw new HearthError("deadline_exceeded", {
      message: "Some machines did not stop in time; they are named in the details.",
      details: { machines: onHost() },
      cause,
    });
  }
  try {
    await slots.drain();
  } catch (error) {
    slots.resume();
    throw error;
  }
  return { stopped };
}
