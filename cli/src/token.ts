/** `hearth token`: what others may do with the API, until when, and the end of it. */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { HearthError } from "@hearth/errors";
import type { ApiToken, CreateToken, TokenLevel, TokenScopeAnswer } from "@hearth/sdk";
import { type Command, Option } from "commander";
import type { Context } from "./context.ts";
import { usage } from "./failure.ts";
import { jsonOption, parseLife, repeated } from "./options.ts";
import { formatAge, note, printJson, printLine, printTable } from "./output.ts";
import { defineTokenNode } from "./token-node.ts";

interface Json {
  readonly json?: boolean;
}

interface CreateOptions {
  readonly org?: string;
  readonly app?: readonly string[];
  readonly machine?: readonly string[];
  readonly readOnly?: boolean;
  readonly exec?: boolean;
  readonly deploy?: boolean;
  readonly admin?: boolean;
  readonly expires?: number;
  readonly label?: string;
}

export function define(command: Command, context: Context): void {
  defineTokenNode(command.command("node"), context);
  command
    .command("create")
    .description("issue a token that may do less than the one in use, and print it")
    .option("--org <org>", "only in this org")
    .option("--app <app>", "only in this app; may be repeated", repeated)
    .option("--machine <id>", "only this machine; may be repeated", repeated)
    .addOption(level("--read-only", "look, without logs (the default)"))
    .addOption(level("--exec", "also sessions, files and logs of machines"))
    .addOption(level("--deploy", "also create, change and destroy machines and apps"))
    .addOption(level("--admin", "everything, tokens of others too"))
    .option("--expires <duration>", "such as 30m, 24h or 90d (24h)", parseLife)
    .option("--label <text>", "what it is for, shown in lists")
    .addOption(jsonOption())
    .action((options: CreateOptions, own: Command) => create(options, context, isJson(own)));
  command
    .command("list")
    .alias("ls")
    .description("list tokens: the one in use, and what was issued from it")
    .addOption(jsonOption())
    .action((_options, own: Command) => list(context, isJson(own)));
  command
    .command("revoke")
    .description("end a token, and all that were issued from it, everywhere")
    .argument("<id>", "as `hearth token list` shows it")
    .addOption(jsonOption())
    .action(async (id: string, _options, own: Command) => {
      const revoked = await context.client().tokens.revoke(id);
      if (isJson(own)) printJson(revoked);
      else printLine(revoked.id);
    });
  command
    .command("show")
    .description("say what the token in use may do, and until when")
    .addOption(jsonOption())
    .action((_options, own: Command) => show(context, isJson(own)));
  command
    .command("rotate-admin")
    .description("replace the operator's token of this host; the old one is refused everywhere")
    .addOption(jsonOption())
    .action((_options, own: Command) => rotateAdmin(context, isJson(own)));
}

/** Also when it stands before the subcommand. */
const isJson = (command: Command): boolean => command.optsWithGlobals<Json>().json === true;

const levels = ["readOnly", "exec", "deploy", "admin"];
const level = (flag: string, description: string): Option => {
  const option = new Option(flag, description);
  return option.conflicts(levels.filter((each) => each !== option.attributeName()));
};

async function create(options: CreateOptions, context: Context, json: boolean): Promise<void> {
  const { org, app: apps, machine: machines, expires: expires_in, label } = options;
  const wanted: CreateToken = { level: levelOf(options), org, apps, machines, expires_in, label };
  const issued = await context.client().tokens.create(wanted);
  if (json) return printJson(issued);
  printLine(issued.token);
  note(`hearth: ${describe(issued)}, until ${issued.expires_at}. It is not shown again.`);
  note(`hearth: \`hearth token revoke ${issued.id}\` ends it.`);
}

function levelOf({ exec, deploy, admin }: CreateOptions): TokenLevel {
  if (admin === true) return "admin";
  if (deploy === true) return "deploy";
  return exec === true ? "exec" : "read-only";
}

function where({ org, apps, machines }: TokenScopeAnswer): string {
  const parts = [
    ...(org === undefined ? [] : [`org ${org}`]),
    ...(apps === undefined ? [] : [`app ${apps.join(", ")}`]),
    ...(machines === undefined ? [] : [`machine ${machines.join(", ")}`]),
  ];
  return parts.length === 0 ? "everything" : parts.join("; ");
}

const describe = (scope: TokenScopeAnswer): string =>
  `${scope.level ?? scope.verbs.join(", ")} on ${where(scope)}`;

async function list(context: Context, json: boolean): Promise<void> {
  const tokens = await Array.fromAsync(context.client().tokens.list());
  if (json) return printJson(tokens);
  const row = (token: ApiToken) => [
    token.id,
    token.label,
    token.level ?? token.verbs.join(","),
    where(token),
    formatAge(token.created_at),
    stateOf(token),
    token.issuer,
  ];
  printTable(["ID", "LABEL", "MAY", "ON", "AGE", "ENDS", "ISSUER"], tokens.map(row));
}

function stateOf({ revoked_at, expires_at }: ApiToken): string {
  if (revoked_at !== undefined) return "revoked";
  return Date.parse(expires_at) < Date.now() ? "expired" : expires_at;
}

async function show(context: Context, json: boolean): Promise<void> {
  const tokens = await context.client().tokens.current();
  if (json) return printJson(tokens);
  for (const token of tokens) {
    const label = token.label === "" ? "" : ` (${token.label})`;
    printLine(`${token.kind === "operator" ? "the operator's token" : `token ${token.token_id}`}${label}`);
    printLine(`  may    ${token.level ?? "these"}: ${token.verbs.join(", ")}`);
    printLine(`  on     ${where(token)}`);
    printLine(`  until  ${token.expires_at ?? "it is replaced"}`);
  }
}

/**
 * The new token is on disk before the region is told of it, and in its place after. Unless the region has refused it,
 * it stays on disk, as it may count already.
 */
async function rotateAdmin(context: Context, json: boolean): Promise<void> {
  const { tokenPath } = context.environment;
  const inUse = context.environment.readToken();
  if (inUse === undefined || inUse !== readFileSync(tokenPath, "utf8").trim())
    throw usage(
      `The token in use is not the one in ${tokenPath}; unset HEARTH_TOKEN and run this on its host.`,
    );
  const token = randomBytes(32).toString("base64url");
  const next = `${tokenPath}.next`;
  writeFileSync(next, `${token}\n`, { mode: 0o600, flush: true });
  const sha256 = createHash("sha256").update(token).digest("hex");
  const { node_id } = await context
    .client()
    .tokens.replaceAdmin(sha256)
    .catch((thrown: unknown) => {
      const error = HearthError.from(thrown);
      if (["unauthenticated", "permission_denied", "not_found"].includes(error.code)) rmSync(next);
      else
        note(
          `hearth: whether it was replaced is not known. If the token is refused now, move ${next} over it.`,
        );
      throw error;
    });
  renameSync(next, tokenPath);
  if (json) printJson({ node_id, token_path: tokenPath });
  else printLine(`${tokenPath} holds the new token; the old one is refused.`);
}
