/** Whether the system's own OpenSSH gets into a machine, with what `hearth ssh issue` writes and nothing else. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { finish, type Platform } from "@hearth/testkit";

export interface SshFacts {
  readonly ssh: boolean;
  readonly scp: boolean;
  readonly sftp: boolean;
}

const limitMs = 120_000;
const bytesCopied = 256 * 1024;

/** @param machine by the name of a machine */
export async function trySystemSsh(
  platform: Platform,
  { machine, directory, found }: { machine: string; directory: string; found: string[] },
): Promise<SshFacts> {
  const issued = await platform.hearth(["ssh", "issue", "--out", join(directory, "ssh"), "--json"]);
  if (issued.code !== 0) {
    found.push(`hearth ssh issue: ${issued.stderr.trim()}`);
    return { ssh: false, scp: false, sftp: false };
  }
  const config = join(directory, "ssh/config");
  const at = `${machine}@hearth`;
  const run = async (program: string, args: readonly string[]) => {
    const env = { ...process.env, SSH_AUTH_SOCK: "", DISPLAY: "" };
    const child = spawn(program, ["-F", config, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
    return await finish(child, limitMs);
  };
  const tell = (what: string, isGood: boolean, said: string): boolean => {
    if (!isGood) found.push(`${what}: ${said.trim()}`);
    return isGood;
  };

  const asked = await run("ssh", [at, "echo in the machine; exit 7"]);
  const ssh = tell("ssh", asked.code === 7 && asked.stdout === "in the machine\n", asked.stderr);

  const file = join(directory, "copied");
  const bytes = randomBytes(bytesCopied);
  writeFileSync(file, bytes);
  const same = (path: string): boolean => readFileSync(path).equals(bytes);
  const put = await run("scp", [file, `${at}:/tmp/copied`]);
  const got = await run("scp", [`${at}:/tmp/copied`, `${file}.scp`]);
  const copied = put.code === 0 && got.code === 0 && same(`${file}.scp`);
  const scp = tell("scp", copied, put.stderr + got.stderr);

  const batch = join(directory, "batch");
  writeFileSync(batch, `put ${file} /tmp/moved\nget /tmp/moved ${file}.sftp\nrm /tmp/moved\n`);
  const moved = await run("sftp", ["-b", batch, at]);
  const sftp = tell("sftp", moved.code === 0 && same(`${file}.sftp`), moved.stderr);
  return { ssh, scp, sftp };
}
