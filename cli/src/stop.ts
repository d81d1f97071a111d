/** `hearth stop`: the programs of machines end, gently first. */
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { eachMachine, unlessAlready } from "./each-machine.ts";
import { appOption, jsonOption, parseCount } from "./options.ts";

interface Options {
  readonly time?: number;
  readonly signal?: string;
  readonly app?: string;
  readonly json?: boolean;
}

/** Beyond what the program gets: its disk is closed, its network given back. */
const settleMs = 60_000;
const longestOwnMs = 300_000;

export function define(command: Command, context: Context): void {
  command
    .argument("<machine...>", "ids, names, or the beginnings of ids")
    .option("-t, --time <seconds>", "what the program gets before it is killed (5)", parseCount)
    .option("-s, --signal <signal>", "what it is sent (the image's, or SIGINT)")
    .addOption(appOption())
    .addOption(jsonOption())
    .action(async (names: string[], { time, signal, app, json }: Options) => {
      const asked = time === 0 ? "SIGKILL" : signal;
      const stop = {
        // The API takes no time at all for none given, so the least is a second.
        ...(time === undefined ? {} : { timeoutSeconds: Math.max(1, time) }),
        ...(asked === undefined ? {} : { signal: asked }),
      };
      const timeoutMs = (time === undefined ? longestOwnMs : time * 1000) + settleMs;
      await eachMachine(context, names, {
        app,
        json,
        act: async (client, found) => {
          await unlessAlready("stopped", client.machines.stop(found, stop));
          await client.machines.wait(found, { states: ["stopped", "failed", "destroyed"], timeoutMs });
        },
      });
    });
}
