/** `hearth logs`: what the program of a machine wrote; its stdout to stdout, the rest to stderr. */
import type { LogEntry } from "@hearth/machine";
import { findMachine } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { LineStamps } from "./line-stamps.ts";
import { appOption, jsonOption, parseCount } from "./options.ts";
import { writeAll } from "./output.ts";

interface Options {
  readonly follow?: boolean;
  readonly tail?: number;
  readonly timestamps?: boolean;
  readonly app?: string;
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  command
    .argument("<machine>", "id, name, or the beginning of an id")
    .option("-f, --follow", "go on with what is to come, until the machine is destroyed")
    .option("-n, --tail <count>", "only the newest pieces of output", parseCount)
    .option("-t, --timestamps", "begin each line with its time")
    .addOption(appOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      "\nWhat Hearth itself says of the machine goes to stderr. With --json each entry is a line, its bytes as base64.",
    )
    .action((machine: string, options: Options) => showLogs(context, machine, options));
}

async function showLogs(context: Context, text: string, options: Options): Promise<void> {
  const { follow = false, tail, timestamps = false, app, json = false } = options;
  const client = context.client();
  const target = await findMachine(client, text, { app });
  const stamps = new LineStamps();
  const ask = { follow, ...(tail === undefined ? {} : { tail }) };
  for await (const entry of client.machines.logs(target, ask)) {
    if (json) await writeAll(process.stdout, `${JSON.stringify(entry)}\n`);
    else await show(entry, timestamps ? stamps : undefined);
  }
}

async function show(entry: LogEntry, stamps: LineStamps | undefined): Promise<void> {
  const data = Buffer.from(entry.data, "base64");
  const shown = stamps === undefined ? data : stamps.add(entry.stream, entry.timestamp, data);
  await writeAll(entry.stream === "stdout" ? process.stdout : process.stderr, shown);
}
