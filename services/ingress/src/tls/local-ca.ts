/**
 * The certificate authority of this host, made on first use, and what it signs: a certificate for the domain and all
 * names one label below it. Nobody trusts it until an operator has it trusted (`hearth ca trust`).
 *
 * Certificates are made by the host's openssl (3.0 or newer): a library that can write them would be most of what this
 * process keeps in memory, for one certificate in two months. Keys are made here, and never leave the directory.
 */
import { execFile } from "node:child_process";
import { createHash, generateKeyPairSync, randomBytes, X509Certificate } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { HearthError } from "@hearth/errors";

export interface KeyAndCertificate {
  /** PEM. */
  readonly key: string;
  /** PEM, the issuer's after it. */
  readonly cert: string;
  readonly expiresMs: number;
}

const run = promisify(execFile);
const opensslLimitMs = 10_000;
const authorityDays = 3_650;
/** Some clients take none that lives longer than 397 days; short ones make renewal a habit. */
const leafDays = 90;

export const authorityPaths = (directory: string) => ({
  certificate: join(directory, "ca.pem"),
  key: join(directory, "ca.key"),
});

export class LocalCa {
  readonly #directory: string;

  /** @param directory made here, for this user alone */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** PEM of the authority, which is made when there is none. @throws HearthError `host_requirement_missing` */
  async certificate(): Promise<string> {
    const { certificate, key } = authorityPaths(this.#directory);
    if (existsSync(certificate) && existsSync(key)) return readFileSync(certificate, "utf8");
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    chmodSync(this.#directory, 0o700);
    const keys = newKey();
    await this.#inScratch(async (scratch) => {
      writeFileSync(join(scratch, "ca.key"), keys.privateKey, { mode: 0o600 });
      const name = `Hearth local CA ${createHash("sha256").update(keys.publicKey).digest("hex").slice(0, 8)}`;
      const extensions = [
        "basicConstraints=critical,CA:TRUE,pathlen:0",
        "keyUsage=critical,keyCertSign,cRLSign",
        "subjectKeyIdentifier=hash",
      ];
      const pem = await this.#sign(
        scratch,
        { subject: `/O=Hearth/CN=${name}`, days: authorityDays, extensions },
        [...["-key", join(scratch, "ca.key")]],
      );
      // The key first: a certificate without its key would be one that nobody can sign for, and could be trusted already.
      renameSync(join(scratch, "ca.key"), key);
      writeFileSync(join(scratch, "ca.pem"), pem, { mode: 0o644 });
      renameSync(join(scratch, "ca.pem"), certificate);
    });
    return readFileSync(certificate, "utf8");
  }

  /** For these names, the first being the subject. @throws HearthError `host_requirement_missing` */
  async issue(names: readonly string[]): Promise<KeyAndCertificate> {
    if (names.length === 0 || !names.every((name) => /^(\*\.)?[a-z0-9.-]{1,253}$/.test(name)))
      throw new HearthError("invalid_argument", { message: "A certificate needs names of hosts." });
    const authority = await this.certificate();
    const { certificate, key } = authorityPaths(this.#directory);
    const keys = newKey();
    return await this.#inScratch(async (scratch) => {
      writeFileSync(join(scratch, "leaf.pub"), keys.publicKey);
      const extensions = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth",
        `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}`,
        "authorityKeyIdentifier=keyid",
      ];
      // The name stays out of the subject, which holds 64 characters; clients read the alternative names.
      const pem = await this.#sign(scratch, { subject: "/O=Hearth", days: leafDays, extensions }, [
        ...["-force_pubkey", join(scratch, "leaf.pub"), "-CA", certificate, "-CAkey", key],
      ]);
      const expiresMs = Date.parse(new X509Certificate(pem).validTo);
      return { key: keys.privateKey, cert: `${pem}${authority}`, expiresMs };
    });
  }

  async #sign(
    scratch: string,
    wish: { readonly subject: string; readonly days: number; readonly extensions: readonly string[] },
    more: readonly string[],
  ): Promise<string> {
    const extensionFile = join(scratch, "extensions");
    writeFileSync(extensionFile, `${wish.extensions.join("\n")}\n`);
    const number = randomBytes(16);
    // Positive, and of one length: RFC 5280 4.1.2.2.
    number[0] = ((number[0] ?? 0) & 0x7f) | 0x40;
    const serial = `0x${number.toString("hex")}`;
    const args = ["x509", "-new", "-sha256", "-days", String(wish.days), "-set_serial", serial];
    const { stdout } = await run(
      "openssl",
      [...args, "-subj", wish.subject, "-extfile", extensionFile, ...more],
      { timeout: opensslLimitMs, env: { PATH: process.env.PATH ?? "" } },
    ).catch((cause: unknown) => {
      throw new HearthError("host_requirement_missing", {
        message: "openssl did not make a certificate; install openssl 3 on this host.",
        cause,
      });
    });
    return stdout;
  }

  async #inScratch<T>(work: (scratch: string) => Promise<T>): Promise<T> {
    const scratch = mkdtempSync(join(this.#directory, ".making-"));
    try {
      return await work(scratch);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  }
}

const newKey = () =>
  generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
