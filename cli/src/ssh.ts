/** `hearth ssh`: the system's OpenSSH client, with a key and a certificate made for this one connection. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { findMachine } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { asHearthFailure } from "./failure.ts";
import { appOption, commandWords } from "./options.ts";
import { note } from "./output.ts";
import { configFile, type SshFiles, writeSshFiles } from "./ssh-files.ts";
import { defineIssue } from "./ssh-issue.ts";

interface Options {
  readonly app?: string;
}

const revokeLimitMs = 5_000;

export function define(command: Command, context: Context): void {
  command
    .argument("<machine>", "id, name, or the beginning of an id")
    .argument("[words...]", "options of ssh, and a command to run in place of a shell")
    .passThroughOptions()
    .addOption(appOption())
    .addHelpText(
      "after",
      `
It makes a key and a certificate for this machine only, starts \`ssh\` with them, and revokes them at the end. What
stands after the machine goes to ssh as it is. The exit code is that of ssh: that of the program, and 255 when there
was no connection. To use ssh, scp, sftp and rsync themselves: \`hearth ssh issue\`.

  hearth ssh web
  hearth ssh web ls -l /etc
  hearth ssh web -N -L 8080:localhost:80`,
    )
    .action((machine: string, words: string[], { app }: Options) =>
      asHearthFailure(() => connect(context, machine, { words: commandWords(words), app })),
    );
  defineIssue(command.command("issue"), context);
}

async function connect(
  context: Context,
  text: string,
  { words, app }: { readonly words: readonly string[]; readonly app: string | undefined },
): Promise<void> {
  const client = context.client();
  const target = await findMachine(client, text, { app });
  const directory = mkdtempSync(join(tmpdir(), "hearth-ssh-"));
  let files: SshFiles | undefined;
  try {
    files = await writeSshFiles(context, directory, { apps: [target.app], machines: [target.id] });
    context.exitCode = await runSsh(context, [
      "-F",
      join(directory, configFile),
      "-l",
      target.id,
      "hearth",
      ...words,
    ]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
    if (files !== undefined) await revoke(context, files.tokenId);
  }
}

async function runSsh({ environment }: Context, words: readonly string[]): Promise<number> {
  // A Ctrl-C reaches ssh from the terminal by itself.
  const ignore = (): void => undefined;
  for (const name of ["SIGINT", "SIGQUIT"] as const) process.on(name, ignore);
  const child = spawn("ssh", words, { stdio: "inherit", env: { ...process.env, PATH: environment.path } });
  const pass = (): void => void child.kill("SIGTERM");
  for (const name of ["SIGTERM", "SIGHUP"] as const) process.on(name, pass);
  try {
    const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  } catch (cause) {
    throw new HearthError("host_requirement_missing", {
      message: "There is no `ssh` here; install the OpenSSH client (Debian: openssh-client).",
      cause,
    });
  } finally {
    for (const name of ["SIGINT", "SIGQUIT"] as const) process.off(name, ignore);
    for (const name of ["SIGTERM", "SIGHUP"] as const) process.off(name, pass);
  }
}

/** It ends by itself too, so a failure is no failure of the command. */
async function revoke(context: Context, tokenId: string): Promise<void> {
  try {
    await context.client().tokens.revoke(tokenId, AbortSignal.timeout(revokeLimitMs));
  } catch (thrown) {
    note(`hearth: the certificate was not revoked: ${HearthError.from(thrown).message}`);
  }
}
