/** One screen about a machine: how it stands, why, what to do, and the steps of its newest start. Pure. */
import { HearthError } from "@hearth/errors";
import type { MachineExplanation, MachineRun, RunStep } from "@hearth/machine";
import type { Machine } from "@hearth/sdk";
import { formatTable } from "./output.ts";
import { placementText } from "./placement-text.ts";

const barWidth = 24;
const startKind = "machine-start";

export function explanationText(
  machine: Pick<Machine, "id" | "name" | "events">,
  { state, runs, placement }: MachineExplanation,
): string {
  const [newest] = runs;
  const start = runs.find(({ kind }) => kind === startKind);
  // What it is doing, or failed to do, is worth a table of its own; a stop that went well is not.
  const shown =
    newest !== start && newest !== undefined && newest.state !== "done" ? [newest, start] : [start];
  const why = [...sentences(machine, state, newest, start), ...placementText(placement)];
  const parts = [`${machine.name} (${machine.id}) is ${state}.\n${why.map((line) => `${line}\n`).join("")}`];
  for (const run of shown) if (run !== undefined) parts.push(runText(run));
  const tail = start?.state === "failed" ? (start.error?.console_tail ?? "") : "";
  if (tail !== "") parts.push(`The end of its console:\n${tail.replaceAll(/^/gm, "  | ")}\n`);
  return parts.join("\n");
}

function sentences(
  { id, events }: Pick<Machine, "id" | "events">,
  state: string,
  newest: MachineRun | undefined,
  start: MachineRun | undefined,
): string[] {
  const failed = start?.error ?? undefined;
  if (state === "failed" && failed !== undefined) {
    const { code, step, message, attempts = 1 } = failed;
    const tries = attempts === 1 ? "1 attempt" : `${attempts} attempts`;
    return [`${message} (${code}, at ${step} after ${tries})`, `Next: ${adviceFor(code, id)}`];
  }
  const open = newest?.ended_at === null ? newest : undefined;
  const step = open?.steps.findLast(({ ended_at }) => ended_at === null);
  if (open !== undefined)
    return [
      step === undefined
        ? `It is at work on ${open.kind} for ${formatMs(open.duration_ms)}.`
        : `It is at ${step.name} for ${formatMs(step.duration_ms)}, attempt ${step.attempts}${step.reason === null ? "." : `: ${step.reason}`}`,
    ];
  const exit = events.find(({ type }) => type === "exit")?.request?.exit_event;
  if (state === "stopped" && exit !== undefined)
    return [
      exit.requested_stop ? "It was asked to stop." : `Its program ended with ${exit.exit_code}.`,
      `Next: \`hearth logs ${id}\` shows what it wrote; \`hearth start ${id}\` runs it again.`,
    ];
  if (newest === undefined) return [`Nothing has been done for it yet; \`hearth start ${id}\` runs it.`];
  return [];
}

/** What the registry says to do about the code, which is the second half of its text. */
function adviceFor(code: string, id: string): string {
  const { code: known, message } = HearthError.fromWire({ code });
  const advice =
    known === code ? message.slice(message.indexOf(";") + 1).trim() : "look at the worker's log.";
  return `${advice} Then \`hearth start ${id}\` tries again.`;
}

function runText(run: MachineRun): string {
  const begunMs = Date.parse(run.begun_at);
  const row = (step: RunStep): string[] => [
    step.name,
    step.state,
    String(step.attempts),
    `+${formatMs(Date.parse(step.begun_at) - begunMs)}`,
    formatMs(step.duration_ms),
    bar(step, run, begunMs),
  ];
  const took = run.ended_at === null ? "so far" : "in all";
  const head = `${run.kind} ${run.state}, begun ${run.begun_at}, ${formatMs(run.duration_ms)} ${took}`;
  const table = formatTable(["STEP", "STATE", "TRIES", "AT", "TOOK", "SHARE"], run.steps.map(row));
  return `${head}\n${table}`;
}

/** Where in the run the step was, and for how much of it; a step that is there has one mark at least. */
function bar(step: RunStep, run: MachineRun, begunMs: number): string {
  const scale = barWidth / Math.max(1, run.duration_ms);
  const from = Math.min(barWidth - 1, Math.max(0, Math.floor((Date.parse(step.begun_at) - begunMs) * scale)));
  const length = Math.min(barWidth - from, Math.max(1, Math.round(step.duration_ms * scale)));
  return `${".".repeat(from)}${"#".repeat(length)}${".".repeat(barWidth - from - length)}`;
}

export function formatMs(ms: number): string {
  if (ms < 1_000) return `${ms} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`;
}
