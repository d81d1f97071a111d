/**
 * The runs of a machine as tables of steps: `start` from the image to its program, `down` from its program to
 * an empty host, `destroy` the same and then the rest; these two let requests end first. The names of runs and
 * steps are on disk.
 */
import { HearthError } from "@hearth/errors";
import type { RunDefinition } from "../journal/run-step.ts";
import { releaseAllImages, releaseStaleImages } from "../machines/image-hold.ts";
import { keepsDisk, stopPlan } from "../machines/machine-program.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import type { MachineStep, RunInput, RunParts } from "./run-parts.ts";
import { endVm, guestReadyStep, processStartStep, vmmStep } from "./start-guest-steps.ts";
import { dropScratch, imageStep, releaseSlot, scratchStep, slotStep } from "./start-host-steps.ts";
import { trafficDrainStep } from "./traffic-drain.ts";

export const runKinds = { start: "machine-start", down: "machine-down", destroy: "machine-destroy" } as const;
export type RunKind = (typeof runKinds)[keyof typeof runKinds];

/** For a guest to take a signal: one that does not is ended with its VM. */
const askingMs = 2_000;

export function startRun(parts: RunParts): RunDefinition<RunInput> {
  return {
    kind: runKinds.start,
    steps: [
      [imageStep(parts), scratchStep(parts), slotStep(parts)],
      vmmStep(parts),
      guestReadyStep(parts),
      processStartStep(parts),
    ],
  };
}

/** @param row what the limits of its steps come from */
export function downRun(parts: RunParts, row: MachineRow): RunDefinition<RunInput> {
  const startsAgain = row.state === "starting";
  const steps: RunDefinition<RunInput>["steps"] = [
    trafficDrainStep(parts, row),
    mainEndStep(parts, row),
    outputDrainStep(parts),
    vmOffStep(parts, keepsDisk(row.config, startsAgain)),
    [slotReleaseStep(parts), scratchDropStep(parts, startsAgain)],
    // Another version may mean another image; one is let go only when no VM reads it and none may go back to it.
    ...(row.state === "replacing" ? [imageReleaseStep(parts, releaseStaleImages)] : []),
  ];
  return { kind: runKinds.down, steps };
}

/** @param row what the limits of its steps come from */
export function destroyRun(parts: RunParts, row: MachineRow): RunDefinition<RunInput> {
  const { ledger, store } = parts;
  const steps: RunDefinition<RunInput>["steps"] = [
    trafficDrainStep(parts, row),
    vmOffStep(parts, false),
    [
      slotReleaseStep(parts),
      onward(parts, "scratch-destroy", async ({ machineId }) => await dropScratch(parts, machineId)),
      imageReleaseStep(parts, (_, { machineId }, signal) => releaseAllImages(parts, machineId, signal)),
    ],
    onward(parts, "ledger-check", async ({ machineId }) => {
      for (const left of ledger.ofMachine(machineId))
        throw new HearthError("internal", { message: `The ${left.kind} ${left.key} is still there.` });
      store.note(machineId, { image: null });
    }),
  ];
  return { kind: runKinds.destroy, steps };
}

/** A step on the way to nothing: it can be repeated, and there is no way back from it. */
function onward(
  { limits }: RunParts,
  name: string,
  act: (...args: Parameters<MachineStep["do"]>) => Promise<void>,
  limitMs = limits.releaseMs,
): MachineStep {
  return {
    name,
    limitMs,
    maxAttempts: 5,
    inspect: async () => false,
    do: async (input, context) => {
      await act(input, context);
      return { kind: "done" };
    },
    undo: async () => undefined,
  };
}

/** Asks the program to end when somebody asked for that, and then makes it. */
function mainEndStep(parts: RunParts, planned: MachineRow): MachineStep {
  const { afterKillMs } = parts.limits;
  const limitMs = stopPlan(planned, planned.stop ?? {}).timeoutMs + afterKillMs + 3 * askingMs;
  const act: MachineStep["do"] = async ({ machineId }, { signal }) => {
    const row = parts.store.get(machineId);
    const live = parts.live.get(machineId);
    const asked = row.stop !== null && row.stop.force !== true;
    if (asked && live !== undefined && live.exit === undefined && row.exit === null) {
      const plan = stopPlan(row, row.stop);
      const over = live.over.then(() => undefined);
      const done = new AbortController();
      const pause = (ms: number) => parts.clock.sleep(ms, AbortSignal.any([signal, done.signal]));
      const tell = (number: number) =>
        live.call((client, limit) => client.signal({ pid: 0, signal: number }, { signal: limit }), signal);
      try {
        if (plan.timeoutMs > 0) {
          await Promise.race([tell(plan.signal), over, pause(askingMs)]);
          await Promise.race([over, pause(plan.timeoutMs)]);
        }
        if (live.exit === undefined) {
          await Promise.race([tell(9), over, pause(askingMs)]);
          await Promise.race([over, pause(afterKillMs)]);
        }
      } catch (error) {
        signal.throwIfAborted();
        // The VM is ended next, whatever its program makes of it.
        parts.logger.warn({ err: error, machine_id: machineId }, "the program could not be asked to end");
      } finally {
        done.abort();
      }
    }
    if (live?.exit !== undefined && row.exit === null) parts.store.note(machineId, { exit: live.exit });
    return { kind: "done" };
  };
  return { ...onward(parts, "main-end", async () => undefined, limitMs), do: act };
}

function outputDrainStep(parts: RunParts): MachineStep {
  return onward(parts, "output-drain", async ({ machineId }, { signal }) => {
    const live = parts.live.get(machineId);
    if (live === undefined || live.vmExit !== undefined) return;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(parts.limits.drainMs)]);
    await live.drain(limit).catch((error: unknown) => {
      parts.logger.warn({ err: error, machine_id: machineId }, "the last output of the guest is lost");
    });
  });
}

function vmOffStep(parts: RunParts, gently: boolean): MachineStep {
  return onward(parts, "vm-off", async ({ machineId }, { signal }) => {
    const live = parts.live.get(machineId);
    if (gently && live !== undefined && live.vmExit === undefined) {
      // What the guest has not written to its disk yet is to be kept too.
      const { powerOffMs } = parts.limits;
      const limit = AbortSignal.any([signal, AbortSignal.timeout(powerOffMs)]);
      await live
        .call((client, inner) => client.shutdown({ graceMs: 1_000 }, { signal: inner }), limit)
        .then(() => Promise.race([live.vmGone, parts.clock.sleep(powerOffMs, limit)]))
        .catch(() => undefined);
    }
    await endVm(parts, machineId);
    const { exit } = parts.store.get(machineId);
    if (live?.exit !== undefined && exit === null) parts.store.note(machineId, { exit: live.exit });
  });
}

const imageReleaseStep = (parts: RunParts, release: typeof releaseStaleImages): MachineStep =>
  onward(parts, "image-release", async ({ machineId }, { signal }) =>
    release(parts, parts.store.get(machineId), signal),
  );

const slotReleaseStep = (parts: RunParts): MachineStep =>
  onward(parts, "slot-release", async ({ machineId }) => await releaseSlot(parts, machineId));

const scratchDropStep = (parts: RunParts, startsAgain: boolean): MachineStep =>
  onward(parts, "scratch-drop", async ({ machineId }) => {
    if (!keepsDisk(parts.store.get(machineId).config, startsAgain)) await dropScratch(parts, machineId);
  });
