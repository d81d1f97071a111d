/** `hearth apps`: names under which machines are found, each with a private network of its own. */
import type { App } from "@hearth/sdk";
import type { Command } from "commander";
import { defineEgress } from "./apps-egress.ts";
import type { Context } from "./context.ts";
import { addEgressOptions, type EgressOptions, egressHelp, egressOf } from "./egress-options.ts";
import { jsonOption } from "./options.ts";
import { formatAge, printJson, printLine, printTable } from "./output.ts";

interface Json {
  readonly json?: boolean;
}

interface CreateOptions extends EgressOptions {
  readonly network?: string;
}

export function define(command: Command, context: Context): void {
  command.addOption(jsonOption()).action(({ json = false }: Json) => list(context, json));
  command
    .command("list", { hidden: true })
    .alias("ls")
    .addOption(jsonOption())
    .action((_options, own: Command) => list(context, isJson(own)));
  const create = command
    .command("create")
    .description("make an app")
    .argument("<name>", "lower-case letters, digits and dashes")
    .option("--network <name>", "private network of its machines; made when it is not there");
  addEgressOptions(create)
    .addOption(jsonOption())
    .addHelpText("after", egressHelp)
    .action(async (name: string, options: CreateOptions, own: Command) => {
      const { network } = options;
      const app = await context.client().apps.create(name, undefined, { network, egress: egressOf(options) });
      if (isJson(own)) printJson(app);
      else printLine(app.name);
    });
  defineEgress(command, context);
  command
    .command("rm")
    .description("remove apps")
    .argument("<name...>")
    .option("-f, --force", "with their machines")
    .addOption(jsonOption())
    .action(async (names: string[], { force = false }: { readonly force?: boolean }, own: Command) => {
      for (const name of names) {
        await context.client().apps.delete(name, { force });
        if (!isJson(own)) printLine(name);
      }
      if (isJson(own)) printJson({ removed: names });
    });
}

/** Also when it stands before the subcommand. */
const isJson = (command: Command): boolean => command.optsWithGlobals<Json>().json === true;

async function list(context: Context, json: boolean): Promise<void> {
  const apps = await context.client().apps.list();
  if (json) return printJson(apps);
  const row = ({ name, machine_count = 0, status = "", created_at }: App) => [
    name,
    String(machine_count),
    status,
    created_at === undefined ? "" : formatAge(created_at),
  ];
  printTable(["APP", "MACHINES", "STATUS", "AGE"], apps.map(row));
}
