/** `hearth exec`: a program in a machine that runs, with its streams and its exit code. */

import { findMachine } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { readEnvOptions } from "./env-options.ts";
import { asHearthFailure, exitCode, usage } from "./failure.ts";
import { appOption, commandWords, jsonOption, repeated } from "./options.ts";
import { exitCodeOf } from "./program-end.ts";
import { printExit, processOutputs, relay } from "./session-relay.ts";
import { forwardSignals } from "./signals.ts";
import { terminalSize } from "./terminal.ts";

interface Options {
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly app?: string;
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  command
    .argument("<machine>", "id, name, or the beginning of an id")
    .argument("[command...]", "the program and its arguments")
    .passThroughOptions()
    .option("-i, --interactive", "give it standard input")
    .option("-t, --tty", "give it a terminal")
    .option("-e, --env <NAME=value>", "a variable; NAME alone passes on your own", repeated)
    .option("--env-file <file>", "variables from a file", repeated)
    .option("-w, --workdir <directory>", "where it runs")
    .option("-u, --user <user>", "as whom it runs: name or uid, and :group")
    .addOption(appOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
The exit code is that of the program; 128 and the number of the signal that ended it; 127 when there is no such
program, 126 when it may not be run, 125 when Hearth failed. With --json each chunk of output is a line, its
bytes as base64, and the end is the last line.

  hearth exec web -- ls -l /etc
  hearth exec -it web sh`,
    )
    .action((machine: string, words: string[], options: Options) =>
      asHearthFailure(() => execIn(context, machine, commandWords(words), options)),
    );
}

async function execIn(
  context: Context,
  text: string,
  command: readonly string[],
  options: Options,
): Promise<void> {
  const { interactive: stdin = false, tty = false, json = false, workdir, user, app } = options;
  if (command.length === 0) throw usage(`Name the program to run: \`hearth exec ${text} -- ls\`.`);
  if (tty && json) throw usage("Use -t or --json, not both.");
  if (tty && stdin && !process.stdin.isTTY)
    throw usage("Standard input is no terminal; leave -t away, or use a terminal.");
  const env = await readEnvOptions(options, context.environment.lookUp);
  const client = context.client();
  const target = await findMachine(client, text, { app });
  await using session = await client.machines.exec(target, {
    command: [...command],
    ...(stdin ? { stdin } : {}),
    ...(tty ? { tty: terminalSize() } : {}),
    ...(Object.keys(env).length > 0 ? { env } : {}),
    ...(workdir === undefined ? {} : { workdir }),
    ...(user === undefined ? {} : { user }),
  });
  // Leaving ends the program, as a closed pipe ends one here.
  context.onBrokenPipe = () => {
    session.close();
    process.exit(exitCode.brokenPipe);
  };
  using _signals = forwardSignals((number, count) => {
    if (count < 3) session.signal(number);
    else process.exit(128 + number);
  });
  const status = await relay(session, { outputs: processOutputs(json), stdin, tty });
  if (json) printExit(status);
  context.exitCode = exitCodeOf(status);
}
