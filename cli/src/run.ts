/** `hearth run`: a machine from an image, its program in the foreground or left to itself. */
import { HearthError } from "@hearth/errors";
import type { HearthClient } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { addEgressOptions, egressHelp } from "./egress-options.ts";
import { asHearthFailure, usage } from "./failure.ts";
import { ImageProgress } from "./image-progress.ts";
import { arrival } from "./images.ts";
import { commandWords, jsonOption, parseCount, parseMemoryMb, parsePositive, repeated } from "./options.ts";
import { printJson, printLine } from "./output.ts";
import { startFailure } from "./program-end.ts";
import { machineOf, parseRestart, type RunOptions } from "./run-config.ts";
import { followProgram } from "./run-foreground.ts";
import { untilRunning } from "./start.ts";
import { warn } from "./warnings.ts";

export function define(command: Command, context: Context): void {
  addEgressOptions(command)
    .argument("<image>", "such as demo:latest; pulled when it is not there")
    .argument("[command...]", "the program's arguments, in place of the image's own")
    .passThroughOptions()
    .option("-d, --detach", "leave it running and print its id")
    .option("--rm", "destroy the machine when its program has ended")
    .option("-e, --env <NAME=value>", "a variable; NAME alone passes on your own", repeated)
    .option("--env-file <file>", "variables from a file", repeated)
    .option("--name <name>", "a name for the machine")
    .option("-i, --interactive", "give it standard input")
    .option("-t, --tty", "give it a terminal")
    .option("--app <app>", "the app it belongs to, made when it is not there", "default")
    .option("-m, --memory <size>", "such as 512m or 2g (256m)", parseMemoryMb)
    .option("--cpus <count>", "virtual CPUs (1)", parsePositive)
    .option("--entrypoint <program>", "in place of the image's own, without its arguments")
    .option("--restart <policy>", "no, on-failure[:times], always (no in the foreground)", parseRestart)
    .option("--stop-signal <signal>", "what asks its program to end")
    .option("--stop-timeout <seconds>", "how long that may take", parseCount)
    .option("--region <region>", "where it runs")
    .option("--node-label <NAME=value>", "only on a node that has this label", repeated)
    .option("--anti-affinity", "never beside another machine of the app on one node")
    .option("-l, --metadata <NAME=value>", "a mark on the machine", repeated)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
In the foreground the exit code is that of the program; 128 and the number of the signal that ended it; 127 when
the image has no such program, 125 when Hearth failed. The first two ctrl-C go to the program, the third destroys
the machine. With --json each chunk of output is a line, its bytes as base64, and the end is the last line.
${egressHelp}

  hearth run --rm demo:latest -- sh -c 'echo hi; exit 7'
  hearth run -d --name web -m 512m -e PORT=8080 web:1.2
  hearth run -d --no-internet --allow-out '*.example.com:443' web:1.2`,
    )
    .action((image: string, words: string[], options: RunOptions) =>
      asHearthFailure(() => run(context, image, commandWords(words), options)),
    );
}

async function run(
  context: Context,
  image: string,
  words: readonly string[],
  options: RunOptions,
): Promise<void> {
  const { detach = false, interactive = false, tty = false, json = false } = options;
  if (detach && interactive) throw usage("Use -d or -i, not both; `hearth exec -it` opens a session later.");
  if (tty && json && !detach) throw usage("Use -t or --json, not both.");
  if (tty && interactive && !process.stdin.isTTY)
    throw usage("Standard input is no terminal; leave -t away, or use a terminal.");
  const wanted = await machineOf(image, words, options, context.environment.lookUp);
  const client = context.client();
  if (!detach) {
    const ready = (signal: AbortSignal) => prepare(client, image, options, signal);
    return followProgram({ context, wanted, options, prepare: ready });
  }
  await prepare(client, image, options);
  const machine = await client.machines.create(options.app, wanted);
  warn(machine);
  const target = { app: options.app, id: machine.id };
  try {
    await untilRunning(client, target);
  } catch (error) {
    if (options.rm === true) await client.machines.destroy(target, { force: true });
    throw startFailure(HearthError.from(error));
  }
  if (json) printJson({ ...(await client.machines.get(target)), placement: machine.placement });
  else printLine(machine.id);
}

async function prepare(
  client: HearthClient,
  image: string,
  { app, json = false }: RunOptions,
  signal?: AbortSignal,
): Promise<void> {
  const progress = new ImageProgress(image, { silent: json });
  await Promise.all([arrival(client.images.pull(image, signal), progress), client.apps.ensure(app, signal)]);
}
