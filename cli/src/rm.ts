/** `hearth rm`: machines are destroyed, with what they wrote. */
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { eachMachine } from "./each-machine.ts";
import { appOption, jsonOption } from "./options.ts";

interface Options {
  readonly force?: boolean;
  readonly app?: string;
  readonly json?: boolean;
}

const goneLimitMs = 120_000;

export function define(command: Command, context: Context): void {
  command
    .argument("<machine...>", "ids, names, or the beginnings of ids")
    .option("-f, --force", "also those that run")
    .addOption(appOption())
    .addOption(jsonOption())
    .action((names: string[], { force = false, app, json }: Options) =>
      eachMachine(context, names, {
        app,
        json,
        act: async (client, found) => {
          await client.machines.destroy(found, { force });
          await client.machines.wait(found, { states: ["destroyed"], timeoutMs: goneLimitMs });
        },
      }),
    );
}
