/** One act on several machines: all are tried at once, each is reported, and one failure makes the command fail. */
import { HearthError } from "@hearth/errors";
import type { HearthClient } from "@hearth/sdk";
import { chooseMachine, type FoundMachine, listMachines } from "@hearth/sdk";
import type { Context } from "./context.ts";
import { exitCode, explain } from "./failure.ts";
import { note, printJson, printLine } from "./output.ts";

export interface EachOptions {
  readonly app?: string | undefined;
  readonly json?: boolean | undefined;
  readonly act: (client: HearthClient, found: FoundMachine) => Promise<void>;
}

export async function eachMachine(
  context: Context,
  names: readonly string[],
  { app, json = false, act }: EachOptions,
): Promise<void> {
  const client = context.client();
  const machines = await listMachines(client, { app });
  const results = await Promise.all(
    names.map(async (name) => {
      try {
        const machine = chooseMachine(machines, name, app);
        const { leaseNonce: nonce } = context.environment;
        const found = { app: machine.app_name, id: machine.id, machine };
        await act(client, nonce === undefined ? found : { ...found, nonce });
        return { machine: name, id: machine.id, ok: true };
      } catch (error) {
        const { code, message } = explain(error, context.environment);
        return { machine: name, ok: false, error: { code, message } };
      }
    }),
  );
  if (json) printJson(results);
  for (const { machine, error } of results) {
    if (error !== undefined) context.exitCode = exitCode.failed;
    if (json) continue;
    if (error === undefined) printLine(machine);
    else note(`hearth: ${machine}: ${error.message} (${error.code})`);
  }
}

/** That a machine is already where it was asked to go is no failure. */
export async function unlessAlready(state: string, work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const { code, details } = HearthError.from(error);
    if (code !== "illegal_transition" || details?.state !== state) throw error;
  }
}
