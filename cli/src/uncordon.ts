/** `hearth uncordon`: the mark of a cordon is taken back. */
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { eachMachine } from "./each-machine.ts";
import { appOption, jsonOption } from "./options.ts";

export function define(command: Command, context: Context): void {
  command
    .argument("<machine...>", "ids, names, or the beginnings of ids")
    .addOption(appOption())
    .addOption(jsonOption())
    .action((names: string[], { app, json }: { readonly app?: string; readonly json?: boolean }) =>
      eachMachine(context, names, {
        app,
        json,
        act: async (client, found) => await client.machines.uncordon(found),
      }),
    );
}
