/** `hearth up`: the host agent of this host, until the node takes work. */
import type { AgentStatus } from "@hearth/host-agent";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { jsonOption, parsePositive, repeated } from "./options.ts";
import { note, printJson, printJsonLine, printLine } from "./output.ts";

interface Options {
  readonly foreground?: boolean;
  readonly region?: string;
  readonly address?: string;
  readonly label?: readonly string[];
  readonly timeout?: number;
  readonly json?: boolean;
}

const pollMs = 100;

export function define(command: Command, context: Context): void {
  command
    .option("--foreground", "stay, log to stderr, and take Hearth down on ctrl-C")
    .option("--region <name>", "the region of this node")
    .option("--address <ip>", "where other hosts reach this one; Hearth then listens there (HEARTH_ADDRESS)")
    .option("--label <name=value>", "what machines may ask of this node", repeated)
    .option("--timeout <seconds>", "how long it may take to become ready (60)", parsePositive)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
The first host makes a region; other hosts join it with a token of \`hearth token node\`, and need an address of it.
What it keeps is in HEARTH_DATA_DIR, its sockets in HEARTH_RUN_DIR, and the API listens on HEARTH_API_PORT.
When Hearth is up already, it says so and does nothing.`,
    )
    .action((options: Options) => upHere(options, context));
}

async function upHere(options: Options, context: Context): Promise<void> {
  const { up } = await import("@hearth/host-agent");
  const { foreground = false, region, address, label, timeout, json = false } = options;
  const agent = {
    detach: !foreground,
    ...(region === undefined ? {} : { region }),
    ...(address === undefined ? {} : { address }),
    ...(label === undefined ? {} : { labels: label.join(",") }),
    ...(timeout === undefined ? {} : { timeoutMs: timeout * 1000 }),
    onProgress: ({ problems: [problem] }: AgentStatus) => {
      if (problem !== undefined) note(`hearth: waiting: ${problem}`);
    },
  };
  if (!foreground) {
    const { status, started } = await up(agent);
    if (json) printJson({ ...status, started });
    else describe(status, started, context);
    return;
  }
  await inForeground(() => up(agent), context, json);
}

export function describe(status: AgentStatus, started: boolean, context: Context): void {
  const { isApiChosen, apiUrl } = context.environment;
  printLine(started ? "Hearth is up." : "Hearth was up already.");
  printLine(`  API    ${status.api_url}`);
  if (status.roles.includes("api")) printLine(`  token  ${status.token_path}`);
  if (status.accelerator !== "kvm") printLine(`  ${status.accelerator_reason}`);
  printLine("Next:");
  printLine("  hearth doctor                      what this host can and cannot do");
  printLine("  hearth run --rm IMAGE -- COMMAND   a machine for one command");
  if (isApiChosen && apiUrl !== status.api_url)
    note(`hearth: HEARTH_API_URL is ${apiUrl}, so the other commands speak to that and not to this node.`);
}

/** Signals go to the agent, whose end is the end of this. */
async function inForeground(
  start: () => Promise<{ readonly started: boolean }>,
  context: Context,
  json: boolean,
): Promise<void> {
  const { status } = await import("@hearth/host-agent");
  let pid: number | undefined;
  const pass = (name: NodeJS.Signals): void => {
    if (pid !== undefined) process.kill(pid, name);
  };
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => pass(name));
  let told = false;
  let asking = false;
  const ask = setInterval(async () => {
    if (told || asking) return;
    asking = true;
    const now = await status().catch(() => undefined);
    asking = false;
    pid = now?.pid ?? pid;
    if (now?.state !== "ready" || told) return;
    told = true;
    if (json) printJsonLine({ ...now, started: true });
    else describe(now, true, context);
  }, pollMs);
  try {
    const { started } = await start();
    if (!started) note("hearth: Hearth runs in the background already; `hearth down` ends it.");
  } finally {
    clearInterval(ask);
  }
}
