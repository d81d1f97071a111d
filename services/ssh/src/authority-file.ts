/** The secret of the gateways, which the API of this host puts in a file when it has it. */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { authorityOf, type SshAuthority } from "@hearth/ssh-keys";

const askEveryMs = 200;

/** Undefined when the signal aborts before. @throws HearthError `invalid_argument` when the file is damaged */
export async function authorityWhenThere(
  path: string,
  signal: AbortSignal,
): Promise<SshAuthority | undefined> {
  while (!signal.aborted) {
    const secret = readIfThere(path);
    if (secret !== undefined) return authorityOf(secret);
    await delay(askEveryMs, undefined, { signal }).catch(() => undefined);
  }
  return undefined;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
