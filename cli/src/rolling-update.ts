/**
 * Machines brought to another version, a few at a time.
 *
 * Each is waited for until it runs and its checks pass; the first that does not, ends the update, and what is under way
 * comes to its end. That one goes back to the version before: the platform does so for a version that cannot start, and
 * this does for one whose checks do not pass. What was brought over before stays, and the report says which machine has
 * which version. Machines that do not run come last, as nobody can see whether their new version would.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import type { HearthClient, Machine, Target, UpdateMachine } from "@hearth/sdk";
import { failureOf } from "./machine-failure.ts";

export type MachineOutcome =
  /** It runs the new version. */
  | "updated"
  /** It has the new version and does not run, as before. */
  | "updated_at_rest"
  /** The new version was not well; it has the one before again. */
  | "rolled_back"
  /** It has neither come up with the new version nor gone back. */
  | "failed"
  | "untouched";

export interface MachineReport {
  readonly id: string;
  readonly name: string;
  readonly outcome: MachineOutcome;
  readonly version: string;
  readonly previous_version: string;
  readonly image: string;
  readonly error?: { readonly code: string; readonly message: string };
}

export type MachineConfigOf = UpdateMachine["config"];

export interface RollingUpdate {
  readonly client: Pick<HearthClient, "machines">;
  readonly app: string;
  readonly nonce?: string | undefined;
  readonly machines: readonly Machine[];
  /** The new configuration out of the one that a machine has. */
  readonly change: (config: MachineConfigOf) => MachineConfigOf;
  /** How many machines may be on their way at a time. */
  readonly atOnce: number;
  /** For one machine to start, and as long again for its checks. */
  readonly limitMs: number;
  readonly onStep: (machine: Machine, step: string) => void;
}

const pollMs = 250;
const running = ({ state }: Machine): boolean => state === "started" || state === "starting";

/** Reports in the order of the machines that were given. */
export async function rollMachines(update: RollingUpdate): Promise<MachineReport[]> {
  const { machines, atOnce } = update;
  const reports = new Map<string, MachineReport>();
  const queue = [...machines.filter(running), ...machines.filter((machine) => !running(machine))].values();
  let isBroken = false;
  const work = async (): Promise<void> => {
    while (!isBroken) {
      const { value: machine, done } = queue.next();
      if (done === true || machine === undefined) return;
      const report = await moveMachine(update, machine);
      reports.set(machine.id, report);
      if (report.error !== undefined) isBroken = true;
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, atOnce) }, work));
  return machines.map((machine) => reports.get(machine.id) ?? reportOf(machine, machine, "untouched"));
}

async function moveMachine(update: RollingUpdate, machine: Machine): Promise<MachineReport> {
  const { client, change, limitMs, onStep } = update;
  const target = targetOf(update, machine);
  const { config: before, version: current_version } = machine;
  try {
    onStep(machine, running(machine) ? "is replaced" : "gets the new version at rest");
    const skip_launch = !running(machine);
    const changed = await client.machines.update(target, {
      config: change(before),
      current_version,
      skip_launch,
    });
    if (skip_launch) return reportOf(machine, changed, "updated_at_rest");
    await client.machines.wait(target, {
      states: ["started"],
      instanceId: changed.instance_id,
      timeoutMs: limitMs,
    });
    onStep(machine, "runs; its checks are waited for");
    const failure = await checksOf(client, target, changed.instance_id, limitMs);
    if (failure === undefined) return reportOf(machine, changed, "updated");
    return await goBack(update, { machine, failure });
  } catch (thrown) {
    return await failed(update, machine, HearthError.from(thrown));
  }
}

/** Why its checks do not pass in time, or why it does not run any more; undefined when they do. */
async function checksOf(
  client: RollingUpdate["client"],
  target: Target,
  version: string,
  limitMs: number,
): Promise<HearthError | undefined> {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const now = await client.machines.get(target);
    if (now.instance_id !== version)
      return new HearthError("conflict", {
        message: `Somebody else gave the machine the version ${now.instance_id} meanwhile.`,
      });
    if (now.state === "failed" || now.state === "stopped") return failureOf(now);
    const counted = now.checks.filter(({ name }) => now.config.checks?.[name]?.kind !== "informational");
    const open = counted.filter(({ status }) => status !== "passing");
    if (now.state === "started" && open.length === 0) return undefined;
    if (performance.now() > endMs) {
      const said = open.map(({ name, status, output }) => `${name} is ${status}: ${output}`).join("; ");
      return new HearthError("deadline_exceeded", {
        message: `Its checks did not pass within ${limitMs / 1000} s${said === "" ? "" : ` (${said})`}.`,
        details: { machine_id: now.id },
      });
    }
    await delay(pollMs);
  }
}

async function goBack(
  update: RollingUpdate,
  { machine, failure }: { readonly machine: Machine; readonly failure: HearthError },
): Promise<MachineReport> {
  const { client, limitMs, onStep } = update;
  const target = targetOf(update, machine);
  if (failure.code === "conflict") return await failed(update, machine, failure);
  onStep(machine, "goes back to the version before");
  try {
    const back = await client.machines.update(target, { config: machine.config });
    const started = { states: ["started"], instanceId: back.instance_id, timeoutMs: limitMs } as const;
    await client.machines.wait(target, started);
    return { ...reportOf(machine, back, "rolled_back"), error: wire(failure) };
  } catch (thrown) {
    const { message } = HearthError.from(thrown);
    const error = { ...wire(failure), message: `${failure.message} Going back failed too: ${message}` };
    return { ...reportOf(machine, machine, "failed"), error };
  }
}

/** The update, or the wait for it, came to nothing; what the machine has now is asked. */
async function failed(update: RollingUpdate, machine: Machine, error: HearthError): Promise<MachineReport> {
  const now = await update.client.machines.get(targetOf(update, machine)).catch(() => machine);
  const outcome = error.code === "update_rolled_back" ? "rolled_back" : "failed";
  const untouched = outcome === "failed" && now.instance_id === machine.instance_id;
  return { ...reportOf(machine, now, untouched ? "untouched" : outcome), error: wire(error) };
}

const wire = ({ code, message }: HearthError) => ({ code, message });

const targetOf = ({ app, nonce }: RollingUpdate, { id }: Machine): Target =>
  nonce === undefined ? { app, id } : { app, id, nonce };

const reportOf = (before: Machine, now: Machine, outcome: MachineOutcome): MachineReport => ({
  ...{ id: before.id, name: before.name, outcome },
  ...{ version: now.instance_id, previous_version: before.instance_id, image: now.config.image },
});
