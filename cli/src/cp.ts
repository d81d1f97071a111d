/** `hearth cp`: files and directories into a machine and out of it, and streams of single files. */
import type { HearthClient, Target } from "@hearth/sdk";
import { findMachine } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { copyIn } from "./copy-in.ts";
import { copyOut } from "./copy-out.ts";
import { CopyReport } from "./copy-report.ts";
import { exitCode, usage } from "./failure.ts";
import { appOption, jsonOption } from "./options.ts";
import { note, printJson, pump } from "./output.ts";

interface Options {
  readonly app?: string;
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  command
    .argument("<source>", "MACHINE:PATH or a path here; - is standard input")
    .argument("<target>", "a path here or MACHINE:PATH; - is standard output")
    .addOption(appOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Directories go with all that is in them; a source that ends with /. gives only what is in it. Permissions go
along, owners do not. Symbolic links come out of machines and cannot be put into them; what was left out is named
and makes the exit code 1.

  hearth cp web:/var/log/app.log .
  hearth cp ./site/. web:/www
  hearth cp web:/etc/hosts - | head -1`,
    )
    .action((source: string, target: string, options: Options) => copy(context, source, target, options));
}

interface Remote {
  readonly machine: string;
  readonly path: string;
}

/** `name:/path`; a path here that has a colon in it is written with a slash before it. */
export function parseRemote(operand: string): Remote | undefined {
  const [, machine, path] = /^([^:/]+):(.*)$/s.exec(operand) ?? [];
  if (machine === undefined || path === undefined || machine.startsWith(".")) return undefined;
  return { machine, path: path.startsWith("/") ? path : `/${path}` };
}

async function copy(
  context: Context,
  source: string,
  target: string,
  { app, json = false }: Options,
): Promise<void> {
  const from = parseRemote(source);
  const to = parseRemote(target);
  if (from !== undefined && to !== undefined)
    throw usage("One of the two is a path here; copy from machine to machine by way of this host.");
  const remote = from ?? to;
  if (remote === undefined)
    throw usage("One of the two is in a machine; write it as MACHINE:PATH, such as web:/etc/hosts.");
  if (json && target === "-") throw usage("Standard output is the file then; leave --json away.");
  const client = context.client();
  const found = await findMachine(client, remote.machine, { app });
  const machine = { app: found.app, id: found.id };
  const report = new CopyReport();
  if (from !== undefined) await copyFrom(client, machine, from.path, target, report);
  else await copyTo(client, machine, source, remote.path, report);
  for (const { path, reason } of report.skipped) note(`hearth: left out ${path}: ${reason}`);
  if (json) printJson(report.summary());
  if (report.skipped.length > 0) context.exitCode = exitCode.failed;
}

async function copyFrom(
  client: HearthClient,
  machine: Target,
  path: string,
  target: string,
  report: CopyReport,
): Promise<void> {
  if (target === "-") await pump(await client.files.read(machine, path), process.stdout);
  else await copyOut({ client, machine, report }, path, target);
}

async function copyTo(
  client: HearthClient,
  machine: Target,
  source: string,
  path: string,
  report: CopyReport,
): Promise<void> {
  if (source !== "-") return await copyIn({ client, machine, report }, source, path);
  if (path.endsWith("/")) throw usage("Standard input has no name; write the whole path of the file.");
  await client.files.write(machine, path, process.stdin);
  report.file(0);
}
