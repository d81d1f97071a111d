/**
 * Which machine a client means by its user name: the id, the name or the beginning of an id of a machine, `app/machine`,
 * or an app, and then its machine that runs, the oldest of several.
 */
import { HearthError } from "@hearth/errors";
import { type AppMachine, findMachine, type HearthClient, listMachines } from "@hearth/sdk";

/** @throws HearthError `machine_not_found`, `conflict` when it is more than one, `illegal_transition` when it does not run */
export async function findTarget(client: HearthClient, wanted: string): Promise<AppMachine> {
  const [first = "", second] = wanted.split("/", 2);
  const machine =
    second === undefined
      ? await machineOrApp(client, first)
      : (await findMachine(client, second, { app: first })).machine;
  if (machine.state === "started") return machine;
  throw new HearthError("illegal_transition", {
    message: `The machine ${machine.id} is ${machine.state} and does not run; \`hearth start ${machine.id}\` starts it.`,
    details: { machine: machine.id, state: machine.state },
  });
}

async function machineOrApp(client: HearthClient, name: string): Promise<AppMachine> {
  const machines = await listMachines(client, {});
  const ofApp = machines
    .filter(({ app_name }) => app_name === name)
    .sort((a, b) => a.created_at.localeCompare(b.created_at));
  const isMachine = machines.some((machine) => machine.id === name || machine.name === name);
  const [oldest] = ofApp;
  if (isMachine || oldest === undefined) return (await findMachine(client, name, {})).machine;
  return ofApp.find(({ state }) => state === "started") ?? oldest;
}
