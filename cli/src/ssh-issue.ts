/** `hearth ssh issue`: a certificate that lasts, and a config for ssh, scp, sftp and rsync. */
import { resolve } from "node:path";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { jsonOption, parseLife, repeated } from "./options.ts";
import { note, printJson, printLine } from "./output.ts";
import { configFile, writeSshFiles } from "./ssh-files.ts";

interface Options {
  readonly app?: readonly string[];
  readonly machine?: readonly string[];
  readonly org?: string;
  readonly expires?: number;
  readonly key?: string;
  readonly out: string;
  readonly json?: boolean;
}

export function defineIssue(command: Command, context: Context): void {
  command
    .description("write a key, a certificate and a config for ssh, scp, sftp and rsync")
    .option("--org <org>", "only in this org")
    .option("--app <app>", "only in this app; may be repeated", repeated)
    .option("--machine <id>", "only this machine; may be repeated", repeated)
    .option("--expires <duration>", "such as 30m or 8h (8h), a week at most", parseLife)
    .option("--key <file>", "an Ed25519 key of your own; its public half is read from <file>.pub")
    .option("--out <directory>", "where the files go", "./hearth-ssh")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
  hearth ssh issue --app web
  ssh -F hearth-ssh/config MACHINE@hearth
  scp -F hearth-ssh/config file MACHINE@hearth:/tmp/
  rsync -e "ssh -F hearth-ssh/config" -a dir MACHINE@hearth:/srv/`,
    )
    .action((options: Options) => issue(context, options));
}

async function issue(context: Context, options: Options): Promise<void> {
  const { org, app: apps, machine: machines, expires: expires_in, json = false } = options;
  const directory = resolve(options.out);
  const key = options.key === undefined ? undefined : resolve(options.key);
  const files = await writeSshFiles(context, directory, { org, apps, machines, expires_in }, key);
  const config = `${directory}/${configFile}`;
  if (json) {
    const { tokenId: token_id, expiresAt: expires_at, host, port } = files;
    return printJson({ config, token_id, expires_at, host, port });
  }
  printLine(config);
  note(`hearth: until ${files.expiresAt}; \`hearth token revoke ${files.tokenId}\` ends it.`);
  note(`hearth: ssh -F ${config} MACHINE@hearth`);
}
