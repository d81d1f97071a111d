/** `hearth certs`: custom domains of an app and their certificates, by the words that users of fly know. */
import { readFileSync } from "node:fs";
import { HearthError } from "@hearth/errors";
import type { CertificateDetail, CertificateSummary } from "@hearth/sdk";
import { type Command, Option } from "commander";
import type { Context } from "./context.ts";
import { jsonOption } from "./options.ts";
import { formatAge, printJson, printLine, printTable } from "./output.ts";

interface Options {
  readonly app: string;
  readonly json?: boolean;
  readonly fullchain: string;
  readonly privateKey: string;
  readonly only?: "acme" | "custom";
}

export function define(command: Command, context: Context): void {
  const certificates = () => context.client().certificates;
  const make = (name: string, text: string, aliases: readonly string[] = []): Command =>
    command
      .command(name)
      .aliases(aliases)
      .description(text)
      .requiredOption("-a, --app <app>", "the app that the name belongs to")
      .addOption(jsonOption());
  const optionsOf = (own: Command): Options => own.optsWithGlobals<Options>();
  const tell = (own: Command, detail: CertificateDetail): void => {
    if (optionsOf(own).json === true) printJson(detail);
    else printLine(textOf(detail, optionsOf(own).app));
  };

  make("list", "list the custom domains of an app", ["ls"]).action(async (_options, own: Command) => {
    const { app, json } = optionsOf(own);
    const all = await certificates().list(app);
    if (json === true) printJson(all);
    else printTable(["HOSTNAME", "STATUS", "CERTIFICATE", "AGE"], all.map(rowOf));
  });
  make("add", "add a custom domain, and have a certificate issued for it", ["create"])
    .argument("<hostname>", "such as www.example.com")
    .action(async (hostname: string, _options, own: Command) => {
      tell(own, await certificates().add(optionsOf(own).app, hostname));
    });
  make("show", "show a custom domain: its certificates, and what the authority said")
    .argument("<hostname>")
    .action(async (hostname: string, _options, own: Command) => {
      tell(own, await certificates().get(optionsOf(own).app, hostname));
    });
  make("check", "look the name up now, and have what failed tried again")
    .argument("<hostname>")
    .action(async (hostname: string, _options, own: Command) => {
      tell(own, await certificates().check(optionsOf(own).app, hostname));
    });
  make("import", "add a custom domain with a certificate of your own")
    .argument("<hostname>")
    .requiredOption("--fullchain <file>", "PEM, the certificate of the name first, then its issuers")
    .requiredOption("--private-key <file>", "PEM, without a passphrase")
    .action(async (hostname: string, _options, own: Command) => {
      const { app, fullchain, privateKey } = optionsOf(own);
      const upload = { hostname, fullchain: readText(fullchain), private_key: readText(privateKey) };
      tell(own, await certificates().import(app, upload));
    });
  make("remove", "remove a custom domain and its certificates", ["rm", "delete"])
    .argument("<hostname>")
    .addOption(new Option("--only <which>", "keep the name, and remove one").choices(["acme", "custom"]))
    .action(async (hostname: string, _options, own: Command) => {
      const { app, json, only } = optionsOf(own);
      await certificates().remove(app, hostname, only);
      if (json === true) printJson({ hostname, removed: only ?? "all" });
      else printLine(hostname);
    });
}

const sourceNames: Readonly<Record<string, string>> = {
  fly: "of an authority (ACME)",
  custom: "uploaded",
  local: "of each host's own authority (`hearth ca trust`)",
};

const rowOf = (one: CertificateSummary): string[] => [
  one.hostname,
  one.status,
  one.has_custom_certificate ? "uploaded" : one.has_fly_certificate ? "acme" : "-",
  formatAge(one.created_at),
];

export function textOf(detail: CertificateDetail, app: string): string {
  const { hostname, status, certificates, validation_errors, next_attempt_at, rate_limited_until } = detail;
  const lines = [`${hostname}  ${status}`];
  for (const { source, status: state, expires_at, issuer } of certificates) {
    const until = expires_at === undefined ? "" : `, until ${expires_at}`;
    lines.push(
      `  ${state}: ${sourceNames[source] ?? source}${issuer === undefined ? "" : ` (${issuer})`}${until}`,
    );
  }
  if (certificates.length === 0) lines.push("  no certificate: none was asked for or uploaded");
  lines.push(...recordLines(detail));
  for (const { code, message, timestamp, remediation } of validation_errors.slice(0, 3))
    lines.push(`  ${timestamp} ${code}: ${message}`, `    ${remediation}`);
  if (rate_limited_until !== undefined)
    lines.push(`  The authority wants to be left alone until ${rate_limited_until}.`);
  else if (next_attempt_at !== undefined && status !== "active")
    lines.push(`  It is tried again at ${next_attempt_at}.`);
  if (status !== "active") lines.push(`Next: hearth certs check ${hostname} -a ${app}`);
  return lines.join("\n");
}

/** Where the name leads, when that was just looked up, and where it should when it does not. */
function recordLines({
  hostname,
  dns_records,
  dns_requirements,
  validation,
  status,
}: CertificateDetail): string[] {
  const lines: string[] = [];
  if (dns_records !== undefined) {
    const found = [...dns_records.cname, ...dns_records.a, ...dns_records.aaaa];
    const verdict = validation.dns_configured ? "here" : "not here";
    lines.push(`  leads to ${found.join(", ") || "nothing"}: ${verdict}`);
  }
  if (validation.dns_configured || (status === "active" && dns_records === undefined)) return lines;
  const { a, aaaa, cname } = dns_requirements;
  lines.push("  Give the name one of these records:");
  lines.push(`    CNAME ${hostname} ${cname}`);
  for (const address of a) lines.push(`    A     ${hostname} ${address}`);
  for (const address of aaaa) lines.push(`    AAAA  ${hostname} ${address}`);
  return lines;
}

/** @throws HearthError `invalid_argument` */
function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new HearthError("invalid_argument", { message: `${path} cannot be read; check the path.`, cause });
  }
}
