/** The files that the OpenSSH client reads: a key, its certificate, the host key of the region, and a config. */
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import type { SshCertificateWish } from "@hearth/sdk";
import { ed25519PublicLine, openSshPrivateKey } from "@hearth/ssh-keys";
import type { Context } from "./context.ts";

export const configFile = "config";
/** The first line of a config that may be written again. */
const madeHere = "# Written by `hearth ssh issue`.";
const keyFile = "key";

export interface SshFiles {
  readonly tokenId: string;
  readonly expiresAt: string;
  readonly host: string;
  readonly port: number;
}

/**
 * @param directory only the caller may read it; what it holds already is kept but for these files
 * @throws HearthError `conflict` when it has a config of somebody else's, such as ~/.ssh
 */
export async function writeSshFiles(
  context: Context,
  directory: string,
  wish: Omit<SshCertificateWish, "public_key">,
  ownKeyPath?: string,
): Promise<SshFiles> {
  assertOurs(directory);
  const keyPath = ownKeyPath ?? join(directory, keyFile);
  const seed = ownKeyPath === undefined ? randomBytes(32) : undefined;
  const publicKey = seed === undefined ? readFileSync(`${ownKeyPath}.pub`, "utf8") : ed25519PublicLine(seed);
  const issued = await context.client().ssh.issue({ ...wish, public_key: publicKey.trim() });
  const host = new URL(context.environment.apiUrl).hostname.replace(/^\[|\]$/g, "");
  const { port, host_key, certificate, token_id, expires_at } = issued;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  // Only now: a set of before goes on being good when nothing is issued.
  if (seed !== undefined) {
    writeFileSync(keyPath, openSshPrivateKey(seed, "hearth"), { mode: 0o600 });
    chmodSync(keyPath, 0o600);
  }
  writeFileSync(join(directory, `${keyFile}-cert.pub`), `${certificate}\n`, { mode: 0o600 });
  // The key is the region's, whichever of its hosts answers.
  writeFileSync(join(directory, "known_hosts"), `hearth ${host_key}\n`);
  writeFileSync(join(directory, configFile), sshConfig({ directory, keyPath, host, port }));
  return { tokenId: token_id, expiresAt: expires_at, host, port };
}

function assertOurs(directory: string): void {
  const path = join(directory, configFile);
  if (!existsSync(path) || readFileSync(path, "utf8").startsWith(madeHere)) return;
  throw new HearthError("conflict", {
    message: `${path} was not written by \`hearth ssh issue\` and is left alone; name a directory of its own with --out.`,
  });
}

const sshConfig = (at: {
  readonly directory: string;
  readonly keyPath: string;
  readonly host: string;
  readonly port: number;
}): string =>
  `${madeHere}
Host hearth
  HostName ${at.host}
  Port ${at.port}
  HostKeyAlias hearth
  IdentityFile "${at.keyPath}"
  CertificateFile "${join(at.directory, `${keyFile}-cert.pub`)}"
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile "${join(at.directory, "known_hosts")}"
  StrictHostKeyChecking yes
  PreferredAuthentications publickey
  ForwardAgent no
  ServerAliveInterval 60
`;
