/**
 * Each step that an operation does, made to fail and made to be done twice, and each undo twice:
 *
 * repeat: the step did what it does and then failed in a way that is tried again, so it is done once more.
 * fail:   it failed for good, before and after what it does; what was done so far is undone.
 * undo:   the last step failed for good, and the undo of each step failed once after what it does.
 *
 * What starts a machine may end in `failed` with the step's name; everything else must come to its end all the same.
 * In every case record, ledger and host must agree, and nothing may be left when the machine is gone.
 */
import type { MachineRecord } from "@hearth/machine";
import { clear, converged, leftovers, trace, violated } from "./converged.ts";
import type { DrillNode } from "./drill-node.ts";
import type { DrillOrder } from "./drill-worker.ts";
import { newDrillMachine, type Operation, operations } from "./operations.ts";

type Faults = Extract<DrillOrder, { kind: "throw" }>["faults"];

interface Fault {
  readonly operation: Operation;
  readonly what: string;
  readonly faults: Faults;
  readonly mayFail: boolean;
}

export interface StepFaultsResult {
  readonly steps: number;
  readonly runs: number;
  readonly converged: number;
  readonly violations: readonly {
    readonly operation: string;
    readonly what: string;
    readonly message: string;
  }[];
}

export interface StepFaultsOptions {
  readonly operations?: readonly string[] | undefined;
  readonly onRun?: (line: string) => void;
}

/** Not tried again, and no fault of the platform; tried again. */
const forGood = "image_not_found";
const again = "unavailable";

export async function runStepFaults(
  nodes: readonly [DrillNode, ...DrillNode[]],
  options: StepFaultsOptions,
): Promise<StepFaultsResult> {
  const planned: Fault[] = [];
  const steps = new Set<string>();
  for (const operation of operations) {
    if (options.operations !== undefined && !options.operations.includes(operation.name)) continue;
    if (operation.name === "take-over" || operation.name === "reboot") continue;
    const visited = new Set(await trace(nodes[0], operation));
    const names = [...visited].flatMap((point) => /^do (.*)\.after$/.exec(point)?.[1] ?? []);
    for (const step of names) {
      steps.add(step);
      const fault = (what: string, faults: Faults, mayFail = true): void => {
        planned.push({ operation, what: `${what} ${step}`, faults, mayFail });
      };
      fault("repeat", [{ point: `do ${step}.after`, code: again }], false);
      fault("fail before", [{ point: `do ${step}.before`, code: forGood }]);
      fault("fail after", [{ point: `do ${step}.after`, code: forGood }]);
      fault("undo twice", [
        { point: "do process-start.after", code: forGood },
        { point: `undo ${step}.after`, code: again },
      ]);
    }
  }
  const violations: StepFaultsResult["violations"][number][] = [];
  let done = 0;
  const queue = planned.values();
  const work = async (node: DrillNode): Promise<void> => {
    for (const fault of queue) {
      const message = await runFault(node, fault);
      done += 1;
      const where = `${fault.operation.name}: ${fault.what}`;
      options.onRun?.(`${done}/${planned.length} ${where}: ${message ?? "converged"}`);
      if (message !== undefined)
        violations.push({ operation: fault.operation.name, what: fault.what, message });
    }
  };
  await Promise.all(nodes.map(work));
  const runs = planned.length;
  return { steps: steps.size, runs, converged: runs - violations.length, violations };
}

async function runFault(node: DrillNode, { operation, faults, mayFail }: Fault): Promise<string | undefined> {
  const machine = newDrillMachine(operation.config);
  const either: Operation = {
    ...operation,
    holds: (record, one) => operation.holds(record, one) || (mayFail && wasFailed(record)),
  };
  try {
    await operation.before(node, machine);
    await node.order({ kind: "throw", faults });
    await operation.ask(node, machine);
    await converged(node, either, machine);
    const wrong = await violated(node, machine, undefined);
    await node.order({ kind: "throw", faults: [] });
    await clear(node, machine);
    return wrong ?? (await leftovers(node));
  } catch (error) {
    await node.endWorker("SIGKILL");
    await node.startWorker();
    await clear(node, machine).catch(() => undefined);
    return `${error instanceof Error ? error.message : String(error)}\n${node.log}`;
  }
}

/** It says why, or it went back to the version before. */
const wasFailed = ({ state, events }: MachineRecord): boolean =>
  (state === "failed" && events[0]?.request?.error !== undefined) ||
  (state === "started" && events.some(({ request }) => request?.rolled_back !== undefined));
