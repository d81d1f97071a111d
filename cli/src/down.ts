/** `hearth down`: the machines of this host stop, then everything of Hearth on it. */
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { jsonOption, parseCount } from "./options.ts";
import { note, printJson, printLine } from "./output.ts";

interface Options {
  readonly timeout?: number;
  readonly force?: boolean;
  readonly json?: boolean;
}

export function define(command: Command, _context: Context): void {
  command
    .option("-t, --timeout <seconds>", "what machines get to stop by themselves (15)", parseCount)
    .option("-f, --force", "go on when the machines cannot be stopped; they then run on")
    .addOption(jsonOption())
    .addHelpText("after", "\nMachines that ran start again with the next `hearth up`.")
    .action(async ({ timeout, force = false, json = false }: Options) => {
      const { down } = await import("@hearth/host-agent");
      if (!json) note("hearth: stopping the machines and the services of this host");
      const stopped = await down({ force, ...(timeout === undefined ? {} : { timeoutMs: timeout * 1000 }) });
      if (json) printJson({ stopped });
      else printLine(stopped ? "Hearth is down." : "Hearth was not up.");
    });
}
