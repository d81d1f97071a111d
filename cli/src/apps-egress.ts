/** `hearth apps egress`: what the machines of an app may send, where they do not say so themselves. */
import type { EgressPolicy } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { addEgressOptions, type EgressOptions, egressHelp, egressOf } from "./egress-options.ts";
import { usage } from "./failure.ts";
import { jsonOption } from "./options.ts";
import { printJson, printLine, printTable } from "./output.ts";

interface Options extends EgressOptions {
  readonly clear?: boolean;
}

export function defineEgress(command: Command, context: Context): void {
  const egress = command
    .command("egress")
    .description("show or set what an app's machines may send to the world")
    .argument("<app>")
    .option("--clear", "leave it to the machines again");
  addEgressOptions(egress)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${egressHelp}
The options together are the whole policy, in place of the one before. It holds at once, also for machines that run;
connections that are open stay. What a machine says of a list itself (\`hearth run --allow-out\`) replaces the app's.

  hearth apps egress web
  hearth apps egress web --no-internet --allow-out '*.github.com:443'
  hearth apps egress web --clear`,
    )
    .action(async (app: string, options: Options, own: Command) => {
      const policy = await obey(context, app, options);
      if (own.optsWithGlobals<{ json?: boolean }>().json === true) printJson({ app, egress: policy });
      else printPolicy(policy);
    });
}

async function obey(context: Context, app: string, options: Options): Promise<EgressPolicy> {
  const { apps } = context.client();
  const policy = egressOf(options);
  if (options.clear === true) {
    if (policy !== undefined) throw usage("Use --clear or a policy, not both.");
    return await apps.clearEgress(app);
  }
  return policy === undefined ? await apps.egress(app) : await apps.setEgress(app, policy);
}

function printPolicy({ allowOut = [], denyOut = [], allow_internet_access = true }: EgressPolicy): void {
  const denied = allow_internet_access ? denyOut : ["all", ...denyOut];
  if (allowOut.length + denied.length === 0) {
    printLine("The app denies nothing.");
    return;
  }
  const row = (verdict: string) => (rule: string) => [verdict, rule];
  printTable(["EGRESS", "RULE"], [...allowOut.map(row("allow")), ...denied.map(row("deny"))]);
}
