/** `hearth update`: the machines of an app get another image or other settings, without a request being lost. */
import { type AppMachine, chooseMachine, listMachines } from "@hearth/sdk";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Context } from "./context.ts";
import { readEnvOptions } from "./env-options.ts";
import { exitCode, usage } from "./failure.ts";
import { ImageProgress } from "./image-progress.ts";
import { arrival } from "./images.ts";
import { jsonOption, parseMemoryMb, parsePositive, repeated } from "./options.ts";
import { note, printJson, printTable } from "./output.ts";
import { type MachineConfigOf, type MachineReport, rollMachines } from "./rolling-update.ts";

interface Options {
  readonly app?: string;
  readonly image?: string;
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly memory?: number;
  readonly cpus?: number;
  readonly strategy: "rolling" | "immediate";
  readonly maxUnavailable?: Share;
  readonly wait: number;
  readonly json?: boolean;
}

interface Share {
  readonly count?: number;
  readonly percent?: number;
}

export function define(command: Command, context: Context): void {
  command
    .argument("[machine...]", "ids, names, or the beginnings of ids; all of --app when none is named")
    .option("--app <app>", "the app whose machines these are")
    .option("--image <image>", "the new image; pulled before the first machine is touched")
    .option("-e, --env <NAME=value>", "a variable, beside those that each machine has", repeated)
    .option("--env-file <file>", "variables from a file", repeated)
    .option("-m, --memory <size>", "such as 512m or 2g", parseMemoryMb)
    .option("--cpus <count>", "virtual CPUs", parsePositive)
    .addOption(
      new Option("--strategy <strategy>", "one after the other, or all at once")
        .choices(["rolling", "immediate"])
        .default("rolling"),
    )
    .option("--max-unavailable <count>", "machines on their way at a time, such as 2 or 25% (1)", parseShare)
    .option("--wait <seconds>", "for a machine to start, and again for its checks", parsePositive, 300)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Each machine stops, starts with the new version, and has to pass its checks before the next one is touched. The first
that does not goes back to the version before, and the update ends there. The front door sends no new request to a
machine that is to stop, and lets those under way end (stop_config.timeout, 5 s when it is not set). Requests for an app
that has one machine wait while it is replaced.

  hearth update --app web --image web:1.3
  hearth update --app web -e LEVEL=debug --max-unavailable 25%`,
    )
    .action((names: string[], options: Options) => update(context, names, options));
}

async function update(context: Context, names: readonly string[], options: Options): Promise<void> {
  const { app, image, json = false, strategy, maxUnavailable } = options;
  if (app === undefined && names.length === 0) throw usage("Name machines, or an app with --app.");
  if (strategy === "immediate" && maxUnavailable !== undefined)
    throw usage("Use --max-unavailable with --strategy rolling; immediate is all at once.");
  const env = await readEnvOptions(options, context.environment.lookUp);
  if (image === undefined && options.memory === undefined && options.cpus === undefined)
    if (Object.keys(env).length === 0)
      throw usage(
        "Say what is to change: --image, -e, --memory or --cpus; `hearth restart` changes nothing.",
      );
  const client = context.client();
  const machines = chosen(await listMachines(client, { app }), names, app);
  const [first] = machines;
  if (first === undefined)
    throw usage(`The app ${app} has no machine; \`hearth run --app ${app}\` makes one.`);
  if (image !== undefined)
    await arrival(client.images.pull(image), new ImageProgress(image, { silent: json }));
  const running = machines.filter(({ state }) => state === "started").length;
  if (!json) for (const text of notes(machines, running)) note(text);
  const reports = await rollMachines({
    ...{ client, app: first.app_name, nonce: context.environment.leaseNonce, machines },
    change: (config) => changed(config, { ...options, env }),
    atOnce: strategy === "immediate" ? machines.length : countOf(maxUnavailable, running),
    limitMs: options.wait * 1000,
    onStep: ({ name, id }, step) => void (json || note(`${name || id} ${step}`)),
  });
  const ok = reports.every(({ error }) => error === undefined);
  if (!ok) context.exitCode = exitCode.failed;
  if (json) return printJson({ app: first.app_name, ok, strategy, machines: reports });
  report(reports, first.app_name);
}

function chosen(all: readonly AppMachine[], names: readonly string[], app: string | undefined): AppMachine[] {
  if (names.length === 0) return all.filter(({ state }) => state !== "destroyed" && state !== "destroying");
  const found = new Map(names.map((name) => chooseMachine(all, name, app)).map((one) => [one.id, one]));
  const apps = new Set([...found.values()].map(({ app_name }) => app_name));
  if (apps.size > 1)
    throw usage(`These are machines of several apps: ${[...apps].join(", ")}; update one app.`);
  return [...found.values()];
}

function notes(machines: readonly AppMachine[], running: number): string[] {
  const told: string[] = [];
  const serves = machines.some(({ config }) => (config.services ?? []).length > 0);
  if (running === 1 && serves)
    told.push(
      "One machine runs: requests wait at the front door while it is replaced, for a minute at most.",
    );
  if (serves && machines.every(({ checks }) => checks.length === 0))
    told.push("There are no health checks, so a machine counts as well as soon as its program runs.");
  return told;
}

function changed(
  config: MachineConfigOf,
  { image, env, memory, cpus }: Pick<Options, "image" | "memory" | "cpus"> & { env: Record<string, string> },
): MachineConfigOf {
  const guest = {
    ...config.guest,
    ...(memory === undefined ? {} : { memory_mb: memory }),
    ...(cpus === undefined ? {} : { cpus }),
  };
  const { env: before = {} } = config;
  return { ...config, guest, env: { ...before, ...env }, ...(image === undefined ? {} : { image }) };
}

function report(reports: readonly MachineReport[], app: string): void {
  const row = ({ id, name, outcome, version, image }: MachineReport) => [
    ...[id, name, outcome.replaceAll("_", " ")],
    ...[version, image],
  ];
  printTable(["ID", "NAME", "OUTCOME", "VERSION", "IMAGE"], reports.map(row));
  for (const { id, name, error, outcome } of reports) {
    if (error === undefined) continue;
    const back = outcome === "rolled_back" ? " It has the version before again." : "";
    note(
      `hearth: ${name || id}: ${error.message}${back} \`hearth explain ${id}\` says more. (${error.code})`,
    );
  }
  const left = reports.filter(({ outcome }) => outcome === "untouched").length;
  if (left > 0 && reports.some(({ error }) => error !== undefined))
    note(`hearth: The update of ${app} ended there; ${left} of ${reports.length} machines were not touched.`);
}

function parseShare(text: string): Share {
  const [, digits = "", percent] = /^(\d{1,4})(%?)$/.exec(text) ?? [];
  const count = Number(digits);
  if (digits === "" || count === 0 || (percent === "%" && count > 100))
    throw new InvalidArgumentError("Give a number of machines, such as 2, or a share, such as 25%.");
  return percent === "%" ? { percent: count } : { count };
}

const countOf = ({ count = 1, percent }: Share = {}, running: number): number =>
  percent === undefined ? count : Math.max(1, Math.floor((running * percent) / 100));
