/** `hearth explain`: what was done for a machine, where the time went, and why it failed. */

import { findMachine } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { explanationText } from "./explanation-text.ts";
import { appOption, jsonOption } from "./options.ts";
import { printJson } from "./output.ts";

interface Options {
  readonly app?: string;
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  command
    .argument("<machine>", "an id, a name, or the beginning of an id")
    .addOption(appOption())
    .addOption(jsonOption())
    .action(async (name: string, { app, json }: Options) => {
      const client = context.client();
      const found = await findMachine(client, name, { app, includeDestroyed: true });
      const told = await client.machines.explain(found);
      if (json === true) printJson(told);
      else process.stdout.write(explanationText(found.machine, told));
    });
}
