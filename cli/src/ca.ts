/** `hearth ca`: the authority that signs the certificates of this host's front door. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { jsonOption } from "./options.ts";
import { printJson, printLine } from "./output.ts";

interface Json {
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  const { dataDir } = context.environment;
  command
    .command("show")
    .description("print the certificate of the authority, in PEM")
    .addOption(jsonOption())
    .action((_options, own: Command) => {
      const { path, pem, certificate } = readAuthority(dataDir);
      if (own.optsWithGlobals<Json>().json !== true) return printLine(pem.trimEnd());
      printJson({
        certificate: path,
        subject: certificate.subject,
        fingerprint_sha256: certificate.fingerprint256,
        valid_to: new Date(certificate.validTo).toISOString(),
        pem,
      });
    });
  command
    .command("trust")
    .description("say how to have this host, a browser or one command trust the authority")
    .addOption(jsonOption())
    .action((_options, own: Command) => {
      const { path, certificate } = readAuthority(dataDir);
      const steps = trustSteps(path);
      if (own.optsWithGlobals<Json>().json === true)
        return printJson({ certificate: path, fingerprint_sha256: certificate.fingerprint256, steps });
      printLine(`The authority of this host is ${path}`);
      printLine(`SHA-256 ${certificate.fingerprint256}`);
      printLine("Whoever trusts it trusts all that this host signs; its key is beside it, for root alone.");
      for (const { where, command: line } of steps) printLine(`\n${where}:\n  ${line}`);
    });
}

const trustSteps = (path: string): readonly { readonly where: string; readonly command: string }[] => [
  { where: "One command", command: `curl --cacert ${path} https://<app>.<domain>/` },
  {
    where: "All programs of a Debian host",
    command: `cp ${path} /usr/local/share/ca-certificates/hearth.crt && update-ca-certificates`,
  },
  {
    where: "All programs of a Fedora host",
    command: `cp ${path} /etc/pki/ca-trust/source/anchors/hearth.pem && update-ca-trust`,
  },
  { where: "Node", command: `NODE_EXTRA_CA_CERTS=${path}` },
  { where: "A browser", command: "import the file among the authorities, for web sites" },
];

/** @throws HearthError `not_found`, `permission_denied` */
function readAuthority(dataDir: string) {
  const path = join(dataDir, "ingress/ca.pem");
  try {
    const pem = readFileSync(path, "utf8");
    return { path, pem, certificate: new X509Certificate(pem) };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EACCES")
      throw new HearthError("permission_denied", {
        message: `${path} cannot be read by you; use sudo.`,
        cause,
      });
    throw new HearthError("not_found", {
      message: `There is no authority at ${path}; start the host with \`hearth up\`, which makes one.`,
      cause,
    });
  }
}
