/** The files that the OpenSSH client reads: a key, its certificate, the host key of the region, and a config. */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SshCertificateWish } from "@hearth/sdk";
import { ed25519PublicLine, openSshPrivateKey } from "@hearth/ssh-keys";
import type { Context } from "./context.ts";

export const configFile = "config";
const keyFile = "key";

export interface SshFiles {
  readonly tokenId: string;
  readonly expiresAt: string;
  readonly host: string;
  readonly port: number;
}

/** @param directory only the caller may read it; what it holds already is kept but for these files */
export async function writeSshFiles(
  context: Context,
  directory: string,
  wish: Omit<SshCertificateWish, "public_key">,
  ownKeyPath?: string,
): Promise<SshFiles> {
  const keyPath = ownKeyPath ?? join(directory, keyFile);
  const publicKey = ownKeyPath === undefined ? makeKey(keyPath) : readFileSync(`${ownKeyPath}.pub`, "utf8");
  const issued = await context.client().ssh.issue({ ...wish, public_key: publicKey.trim() });
  const host = new URL(context.environment.apiUrl).hostname.replace(/^\[|\]$/g, "");
  const { port, host_key, certificate, token_id, expires_at } = issued;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(join(directory, `${keyFile}-cert.pub`), `${certificate}\n`, { mode: 0o600 });
  // The key is the region's, whichever of its hosts answers.
  writeFileSync(join(directory, "known_hosts"), `hearth ${host_key}\n`);
  writeFileSync(join(directory, configFile), sshConfig({ directory, keyPath, host, port }));
  return { tokenId: token_id, expiresAt: expires_at, host, port };
}

function makeKey(path: string): string {
  const seed = randomBytes(32);
  mkdirSync(join(path, ".."), { recursive: true, mode: 0o700 });
  writeFileSync(path, openSshPrivateKey(seed, "hearth"), { mode: 0o600 });
  chmodSync(path, 0o600);
  return ed25519PublicLine(seed);
}

const sshConfig = (at: {
  readonly directory: string;
  readonly keyPath: string;
  readonly host: string;
  readonly port: number;
}): string =>
  `Host hearth
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
