/** The table of commands. Only the module of the command that was called is loaded. */
import { Command, CommanderError } from "commander";
import { type Context, createContext } from "./context.ts";
import { readEnvironment } from "./environment.ts";
import { exitCode, explain, type Failure, usage } from "./failure.ts";
import { flushOutputs, note } from "./output.ts";

interface Entry {
  readonly name: string;
  readonly alias?: string;
  readonly summary: string;
  /** Its exit code is that of a program in a machine, so Hearth's own failures need codes apart from those. */
  readonly passesExitCode?: boolean;
  readonly load: () => Promise<{ readonly define: (command: Command, context: Context) => void }>;
}

const entries: readonly Entry[] = [
  { name: "up", summary: "start Hearth on this host", load: () => import("./up.ts") },
  { name: "join", summary: "have this host join a region, and start it", load: () => import("./join.ts") },
  { name: "down", summary: "stop the machines of this host, and Hearth", load: () => import("./down.ts") },
  {
    name: "run",
    summary: "make a machine from an image and run a program in it",
    passesExitCode: true,
    load: () => import("./run.ts"),
  },
  {
    name: "exec",
    summary: "run a program in a machine that runs",
    passesExitCode: true,
    load: () => import("./exec.ts"),
  },
  {
    name: "ssh",
    summary: "open ssh to a machine, or make a certificate for ssh, scp, sftp and rsync",
    passesExitCode: true,
    load: () => import("./ssh.ts"),
  },
  { name: "ps", summary: "list machines", load: () => import("./ps.ts") },
  { name: "logs", summary: "show what the program of a machine wrote", load: () => import("./logs.ts") },
  { name: "cp", summary: "copy files into a machine or out of it", load: () => import("./cp.ts") },
  { name: "stop", summary: "stop machines", load: () => import("./stop.ts") },
  { name: "start", summary: "start machines that are stopped", load: () => import("./start.ts") },
  { name: "restart", summary: "stop machines and start them again", load: () => import("./restart.ts") },
  {
    name: "update",
    alias: "deploy",
    summary: "give the machines of an app another image or other settings, one after the other",
    load: () => import("./update.ts"),
  },
  { name: "rm", summary: "destroy machines", load: () => import("./rm.ts") },
  {
    name: "explain",
    summary: "say what was done for a machine, step by step, and why it failed",
    load: () => import("./explain.ts"),
  },
  {
    name: "cordon",
    summary: "mark machines as ones that are to get no new traffic",
    load: () => import("./cordon.ts"),
  },
  { name: "uncordon", summary: "take the mark of a cordon back", load: () => import("./uncordon.ts") },
  {
    name: "lease",
    summary: "show, acquire and release who may change a machine",
    load: () => import("./lease.ts"),
  },
  { name: "images", summary: "list, pull, import and remove images", load: () => import("./images.ts") },
  { name: "apps", summary: "list, create and remove apps", load: () => import("./apps.ts") },
  {
    name: "network",
    alias: "networks",
    summary: "list, create, pair and remove private networks",
    load: () => import("./network.ts"),
  },
  {
    name: "node",
    alias: "nodes",
    summary: "list, cordon, drain and remove nodes",
    load: () => import("./node.ts"),
  },
  {
    name: "certs",
    alias: "certificates",
    summary: "list, add, check, import and remove custom domains of an app and their certificates",
    load: () => import("./certs.ts"),
  },
  {
    name: "ca",
    summary: "show the authority of the front door's certificates, and how to trust it",
    load: () => import("./ca.ts"),
  },
  {
    name: "mesh",
    summary: "show the network between hosts, and make its keys anew",
    load: () => import("./mesh.ts"),
  },
  {
    name: "token",
    summary: "let others in: tokens of the API, and for hosts that are to join",
    load: () => import("./token.ts"),
  },
  {
    name: "doctor",
    alias: "status",
    summary: "say how Hearth stands on this host, and what to do",
    load: () => import("./doctor.ts"),
  },
  {
    name: "dev",
    summary: "a fleet of hosts on this machine, to try Hearth on",
    load: () => import("./dev.ts"),
  },
];

export async function runProgram(argv: readonly string[]): Promise<number> {
  const context = createContext(readEnvironment(process.env));
  const chosen = entryOf(argv);
  process.stderr.on("error", () => context.onBrokenPipe());
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") context.onBrokenPipe();
    else process.exit(fail(new Error(`standard output: ${error.message}`), context, chosen, false));
  });
  const { program, command } = await buildProgram(context, chosen);
  try {
    await program.parseAsync(argv, { from: "user" });
    await flushOutputs();
    return context.exitCode;
  } catch (thrown) {
    const code = fail(thrown, context, chosen, wantsJson(command));
    await flushOutputs();
    return code;
  }
}

/** Given before a subcommand or after it. */
const wantsJson = (command: Command | undefined): boolean =>
  [command, ...(command?.commands ?? [])].some((each) => each?.opts().json === true);

function entryOf(argv: readonly string[]): Entry | undefined {
  const words = argv.filter((word) => !word.startsWith("-"));
  const wanted = words[0] === "help" ? words[1] : words[0];
  return entries.find(({ name, alias }) => name === wanted || (alias !== undefined && alias === wanted));
}

async function buildProgram(
  context: Context,
  chosen: Entry | undefined,
): Promise<{ program: Command; command: Command | undefined }> {
  const program = new Command("hearth")
    .description("Machines from images: microVMs on hosts of your own.")
    .version(context.environment.version, "-V, --version", "print the version")
    .helpOption("-h, --help", "say what a command does")
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .addHelpText("after", programHelp);
  let command: Command | undefined;
  for (const entry of entries) {
    const defined = program.command(entry.name).description(entry.summary);
    if (entry.alias !== undefined) defined.alias(entry.alias);
    if (entry !== chosen) continue;
    command = defined;
    (await entry.load()).define(defined, context);
  }
  return { program, command };
}

const programHelp = `
It speaks to the node of this host, or to the API that HEARTH_API_URL names with the token in HEARTH_TOKEN.
Exit codes: 0 done, 1 failed, 2 called wrongly; of run, exec and ssh that of the program, and 125 to 127 as docker.`;

function fail(thrown: unknown, context: Context, entry: Entry | undefined, isJson: boolean): number {
  const { environment } = context;
  if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0;
  const isHelp = thrown instanceof CommanderError && thrown.code === "commander.help";
  const failure = thrown instanceof CommanderError ? misuse(thrown, entry) : thrown;
  const explanation = explain(failure, environment);
  const code =
    entry?.passesExitCode === true && explanation.exitCode <= exitCode.usage
      ? exitCode.hearth
      : explanation.exitCode;
  if (isHelp) return code;
  const { code: name, message, details } = explanation;
  if (isJson) {
    const error = details === undefined ? { code: name, message } : { code: name, message, details };
    note(JSON.stringify({ error, exit_code: code }));
  } else note(`hearth: ${message} (${name})`);
  if (environment.isDebug) note(String(thrown instanceof Error ? thrown.stack : thrown));
  return code;
}

function misuse({ message }: CommanderError, entry: Entry | undefined): Failure {
  const text = message.replace(/^error: /, "").replace(/\.?$/, "");
  return usage(`${text}. \`hearth ${entry === undefined ? "" : `${entry.name} `}--help\` says how.`);
}
