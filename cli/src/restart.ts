/** `hearth restart`: machines stop and start again. */
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { eachMachine } from "./each-machine.ts";
import { appOption, jsonOption, parsePositive } from "./options.ts";
import { untilRunning } from "./start.ts";

interface Options {
  readonly time?: number;
  readonly signal?: string;
  readonly force?: boolean;
  readonly app?: string;
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  command
    .argument("<machine...>", "ids, names, or the beginnings of ids")
    .option("-t, --time <seconds>", "what the program gets before it is killed (5)", parsePositive)
    .option("-s, --signal <signal>", "what it is sent (the image's, or SIGINT)")
    .option("-f, --force", "kill it at once")
    .addOption(appOption())
    .addOption(jsonOption())
    .action((names: string[], { time, signal, force = false, app, json }: Options) =>
      eachMachine(context, names, {
        app,
        json,
        act: async (client, found) => {
          await client.machines.restart(found, {
            force,
            ...(time === undefined ? {} : { timeoutSeconds: time }),
            ...(signal === undefined ? {} : { signal }),
          });
          await untilRunning(client, found);
        },
      }),
    );
}
