/** `hearth ps`: the machines. */
import type { AppMachine } from "@hearth/sdk";
import { listMachines } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { appOption, jsonOption } from "./options.ts";
import { formatAge, printJson, printLine, printTable } from "./output.ts";

interface Options {
  readonly all?: boolean;
  readonly quiet?: boolean;
  readonly app?: string;
  readonly json?: boolean;
}

/** Those that run nothing and are not about to. */
const resting: ReadonlySet<string> = new Set(["created", "stopped", "suspended", "failed", "destroyed"]);

export function define(command: Command, context: Context): void {
  command
    .option("-a, --all", "also those that do not run")
    .option("-q, --quiet", "only ids")
    .addOption(appOption())
    .addOption(jsonOption())
    .action(async ({ all, quiet, app, json }: Options) => {
      const found = await listMachines(context.client(), { app });
      const shown = found.filter(({ state }) => all === true || !resting.has(state)).sort(byAppAndAge);
      if (json === true) printJson(shown);
      else if (quiet === true) for (const { id } of shown) printLine(id);
      else
        printTable(
          ["ID", "NAME", "APP", "STATE", "CHECKS", "IMAGE", "AGE", "REGION", "ADDRESS"],
          shown.map(row),
        );
    });
}

const byAppAndAge = (one: AppMachine, other: AppMachine): number =>
  one.app_name.localeCompare(other.app_name) || one.created_at.localeCompare(other.created_at);

const row = ({ id, name, app_name, state, checks, config, created_at, region, private_ip }: AppMachine) => [
  id,
  name,
  app_name,
  state,
  formatChecks(checks),
  config.image,
  formatAge(created_at),
  region,
  private_ip,
];

/** How many of its health checks pass, of how many; an API of before sends none. */
export function formatChecks(checks: AppMachine["checks"] = []): string {
  const passing = checks.filter(({ status }) => status === "passing").length;
  return checks.length === 0 ? "-" : `${passing}/${checks.length}`;
}
