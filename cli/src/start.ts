/** `hearth start`: machines that rest run again. */
import type { HearthClient, Target } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { eachMachine, unlessAlready } from "./each-machine.ts";
import { failureOf } from "./machine-failure.ts";
import { appOption, jsonOption } from "./options.ts";

const startLimitMs = 300_000;

export function define(command: Command, context: Context): void {
  command
    .argument("<machine...>", "ids, names, or the beginnings of ids")
    .addOption(appOption())
    .addOption(jsonOption())
    .action((names: string[], { app, json }: { readonly app?: string; readonly json?: boolean }) =>
      eachMachine(context, names, {
        app,
        json,
        act: async (client, found) => {
          await unlessAlready("started", client.machines.start(found));
          await untilRunning(client, found);
        },
      }),
    );
}

/** A program that began and ended at once has run. @throws HearthError why it did not begin */
export async function untilRunning(client: HearthClient, { app, id }: Target): Promise<void> {
  const target = { app, id };
  const states = ["started", "stopped", "failed", "destroyed"] as const;
  await client.machines.wait(target, { states, timeoutMs: startLimitMs });
  const now = await client.machines.get(target);
  if (now.state === "failed") throw failureOf(now);
}
