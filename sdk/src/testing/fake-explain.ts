/** Explanations of the fake API: one start, with times that stay the same. */
import type { MachineExplanation, MachineRecord, RunStep } from "@hearth/machine";

const beginMs = Date.UTC(2026, 0, 1, 12);
const instant = (ms: number): string => new Date(beginMs + ms).toISOString();

export function fakeExplanation({ id, state, events }: MachineRecord): MachineExplanation {
  const error = events.find(({ request }) => request?.error !== undefined)?.request?.error ?? null;
  const step = (name: string, fromMs: number, duration_ms: number): RunStep => ({
    name,
    state: error?.step === name ? "failed" : error === null ? "done" : "undone",
    attempts: 1,
    begun_at: instant(fromMs),
    ended_at: instant(fromMs + duration_ms),
    duration_ms,
    reason: error?.step === name ? error.message : null,
  });
  const steps = [
    step("image", 0, 100),
    step("network-slot", 0, 50),
    step("vmm", 100, 200),
    step("guest-ready", 300, 1_600),
    step("process-start", 1_900, 100),
  ];
  const times = { begun_at: instant(0), ended_at: instant(2_000), duration_ms: 2_000 };
  const run = { run_id: "r1", kind: "machine-start", ...times, error, steps } as const;
  return { machine_id: id, state, runs: [{ ...run, state: error === null ? "done" : "failed" }] };
}
