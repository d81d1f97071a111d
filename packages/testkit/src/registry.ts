/** A real registry for tests. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "./free-port.ts";

export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:<port>`, as it begins a reference. */
  readonly host: string;
}

const startLimitMs = 10_000;

/**
 * Starts docker-registry on a free port; it is killed on disposal.
 * @param htpasswd lines as Apache's htpasswd writes them with bcrypt; without them anybody may read and write
 */
export async function startRegistry(directory: string, htpasswd?: string): Promise<Registry> {
  const port = await freePort();
  const storage = join(directory, "registry");
  await mkdir(storage, { recursive: true });
  const lines = [
    "version: 0.1",
    `storage: { filesystem: { rootdirectory: ${JSON.stringify(storage)} } }`,
    `http: { addr: "127.0.0.1:${port}" }`,
  ];
  if (htpasswd !== undefined) {
    const path = join(directory, "htpasswd");
    await writeFile(path, htpasswd);
    lines.push(`auth: { htpasswd: { realm: test, path: ${JSON.stringify(path)} } }`);
  }
  const settings = join(directory, "registry.yml");
  await writeFile(settings, `${lines.join("\n")}\n`);
  const child = spawn("docker-registry", ["serve", settings], { stdio: "ignore" });
  const exited = once(child, "exit");
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  const endMs = Date.now() + startLimitMs;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/v2/`).catch(() => undefined);
    if (answer?.status === 200 || answer?.status === 401) break;
    if (child.exitCode === null && Date.now() < endMs) await delay(25);
    else {
      await stop();
      throw new Error("docker-registry did not start");
    }
  }
  return { host: `127.0.0.1:${port}`, [Symbol.asyncDispose]: stop };
}
