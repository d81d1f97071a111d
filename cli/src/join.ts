/** `hearth join`: this host becomes a node of a region, and starts as what the region lets it be. */
import type { AgentStatus } from "@hearth/host-agent";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { jsonOption, parsePositive, repeated } from "./options.ts";
import { note, printJson, printLine } from "./output.ts";
import { describe } from "./up.ts";

interface Options {
  readonly address?: string;
  readonly label?: readonly string[];
  readonly timeout?: number;
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  command
    .argument("<token>", "what `hearth token node` printed on a host of the region; - reads it from stdin")
    .option("--address <ip>", "where other hosts reach this one (default: where the API sees it come from)")
    .option("--label <name=value>", "what machines may ask of this node; may be repeated", repeated)
    .option("--timeout <seconds>", "how long it may take to become ready (60)", parsePositive)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
A token lets one host in, once; the same host may use it again when it did not get the answer. Afterwards
\`hearth up\` starts the host as what it is. Its keys are made here and never leave it.`,
    )
    .action(async (token: string, { address, label, timeout, json = false }: Options) => {
      const { joinUp } = await import("@hearth/host-agent");
      const { status, joined, started } = await joinUp({
        token: token === "-" ? await readStdin() : token,
        ...(label === undefined ? {} : { labels: label.join(",") }),
        ...(address === undefined ? {} : { address }),
        ...(timeout === undefined ? {} : { timeoutMs: timeout * 1000 }),
        onProgress: ({ problems: [problem] }: AgentStatus) => {
          if (problem !== undefined) note(`hearth: waiting: ${problem}`);
        },
      });
      if (json) return printJson({ ...status, joined, started });
      const { node_id, region, roles, address: reached } = joined;
      printLine(
        `This host is ${node_id} of the region ${region} (${roles.join(", ")}), reached at ${reached}.`,
      );
      describe(status, started, context);
    });
}

async function readStdin(): Promise<string> {
  let text = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk;
  return text;
}
