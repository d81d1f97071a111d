/** Machines are named by id, by the beginning of an id that is unique, or by name; in one app, or in all. */
import { HearthError } from "@hearth/errors";
import type { HearthClient } from "./client.ts";
import type { Target } from "./machines.ts";
import type { AppMachine } from "./types.ts";

export interface FoundMachine extends Target {
  readonly machine: AppMachine;
}

export interface MachineScope {
  readonly app?: string | undefined;
  readonly includeDestroyed?: boolean;
}

const shortestPrefix = 3;

/** @throws HearthError `app_not_found` */
export async function listMachines(client: HearthClient, scope: MachineScope): Promise<AppMachine[]> {
  const { app, includeDestroyed = false } = scope;
  if (app !== undefined) {
    const machines = await client.machines.list(app, { includeDestroyed });
    return machines.map((machine) => ({ ...machine, app_name: app }));
  }
  const apps = await client.apps.list();
  const orgs = [...new Set(apps.map(({ organization }) => organization?.slug ?? "personal"))];
  const lists = orgs.map((org) => Array.fromAsync(client.machines.listAll(org, { includeDestroyed })));
  return (await Promise.all(lists)).flat();
}

/** @throws HearthError `machine_not_found`, or `conflict` when the text means more than one */
export async function findMachine(
  client: HearthClient,
  text: string,
  scope: MachineScope,
): Promise<FoundMachine> {
  const machine = chooseMachine(await listMachines(client, scope), text, scope.app);
  return { app: machine.app_name, id: machine.id, machine };
}

export function chooseMachine(machines: readonly AppMachine[], text: string, app?: string): AppMachine {
  const byId = machines.find((machine) => machine.id === text);
  if (byId !== undefined) return byId;
  const byName = machines.filter((machine) => machine.name === text);
  const byPrefix =
    text.length >= shortestPrefix && /^[0-9a-f]+$/.test(text)
      ? machines.filter((machine) => machine.id.startsWith(text))
      : [];
  const matches = byName.length > 0 ? byName : byPrefix;
  const [match, another] = matches;
  if (match !== undefined && another === undefined) return match;
  if (match === undefined) {
    const where = app === undefined ? "in any app" : `in the app ${app}`;
    throw new HearthError("machine_not_found", {
      message: `There is no machine "${text}" ${where}; \`hearth ps -a\` lists those there are.`,
      details: { machine: text },
    });
  }
  const those = matches.map((one) => `${one.app_name}/${one.id}`).join(", ");
  throw new HearthError("conflict", {
    message: `"${text}" is more than one machine: ${those}; give the id, or the app with --app.`,
    details: { machine: text, matches: matches.map((one) => one.id) },
  });
}
