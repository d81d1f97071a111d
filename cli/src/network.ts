/** `hearth network`: the private networks that apps are in, and which of them may talk. */
import type { Network } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { jsonOption } from "./options.ts";
import { formatAge, printJson, printLine, printTable } from "./output.ts";

export function define(command: Command, context: Context): void {
  command.addOption(jsonOption()).action(({ json = false }: Json) => list(context, json));
  command
    .command("list")
    .alias("ls")
    .description("list networks")
    .addOption(jsonOption())
    .action((_options, own: Command) => list(context, isJson(own)));
  command
    .command("create")
    .description("make a network")
    .argument("<name>", "letters, digits, dashes and underscores")
    .addOption(jsonOption())
    .action(async (name: string, _options, own: Command) => {
      const network = await context.client().networks.create(name);
      if (isJson(own)) printJson(network);
      else printLine(network.name);
    });
  command
    .command("show")
    .description("show a network, its apps and its pairs")
    .argument("<name>")
    .addOption(jsonOption())
    .action(async (name: string, _options, own: Command) => {
      const network = await context.client().networks.get(name);
      if (isJson(own)) printJson(network);
      else printNetworks([network]);
    });
  command
    .command("rm")
    .description("remove networks that nothing uses")
    .argument("<name...>")
    .addOption(jsonOption())
    .action(async (names: string[], _options, own: Command) => {
      for (const name of names) {
        await context.client().networks.delete(name);
        if (!isJson(own)) printLine(name);
      }
      if (isJson(own)) printJson({ removed: names });
    });
  definePair(command, context, "pair", "let the machines of two networks talk");
  definePair(command, context, "unpair", "keep the machines of two networks apart again");
}

interface Json {
  readonly json?: boolean;
}

/** Also when it stands before the subcommand. */
const isJson = (command: Command): boolean => command.optsWithGlobals<Json>().json === true;

function definePair(command: Command, context: Context, verb: "pair" | "unpair", text: string): void {
  command
    .command(verb)
    .description(text)
    .argument("<network>")
    .argument("<other>")
    .addOption(jsonOption())
    .action(async (one: string, other: string, _options, own: Command) => {
      await context.client().networks[verb](one, other);
      if (isJson(own)) printJson({ networks: [one, other], paired: verb === "pair" });
      else printLine(`${one} ${other}`);
    });
}

async function list(context: Context, json: boolean): Promise<void> {
  const networks = await context.client().networks.list();
  if (json) printJson(networks);
  else printNetworks(networks);
}

function printNetworks(networks: readonly Network[]): void {
  const row = ({ name, apps, paired_with, created_at }: Network) => [
    name,
    apps.join(" "),
    paired_with.join(" "),
    formatAge(created_at),
  ];
  printTable(["NETWORK", "APPS", "PAIRED WITH", "AGE"], networks.map(row));
}
