/** What is checked and made on a host before anything is started on it. */
import { once } from "node:events";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import type { HostFacts } from "./host-facts.ts";
import { makeDirectory } from "./node-identity.ts";
import type { AgentSettings } from "./settings.ts";

const runDirMark = ".hearth-run";

/** @throws HearthError `host_requirement_missing` naming all that is missing */
export function requireHost(host: HostFacts, settings: AgentSettings): void {
  const missing = [...host.missingPrograms];
  for (const name of ["vmlinux", "initrd.cpio"]) {
    const path = join(settings.assetsDir, name);
    if (!existsSync(path)) missing.push(`${path} (made by scripts/assets.sh)`);
  }
  if (missing.length > 0) {
    throw new HearthError("host_requirement_missing", {
      message: `This host lacks ${missing.join(", ")}; scripts/setup.sh installs what a host needs.`,
      details: { missing },
    });
  }
  if (!host.isRoot) {
    throw new HearthError("host_requirement_missing", {
      message: "Hearth makes network interfaces and firewall rules, which needs root; use sudo.",
    });
  }
}

/**
 * VMMs run as other users and must get through to their own files; what is private below has a mode of its own.
 * The run directory is deleted as a whole in the end, so one that holds something else is refused.
 * Returns whether the run directory is new: one that is not belongs to machines that may be running.
 */
export function prepareDirectories({ dataDir, runDir }: AgentSettings): boolean {
  makeDirectory(runDir, 0o711);
  const mark = join(runDir, runDirMark);
  const isNew = !existsSync(mark);
  if (isNew && readdirSync(runDir).length > 0) {
    throw new HearthError("invalid_argument", {
      message: `The run directory ${runDir} holds files of something else; name another in HEARTH_RUN_DIR.`,
      details: { field: "HEARTH_RUN_DIR" },
    });
  }
  writeFileSync(mark, "");
  makeDirectory(dataDir, 0o711);
  makeDirectory(join(dataDir, "logs"), 0o700);
  return isNew;
}

/** @throws HearthError `conflict` when somebody listens there, `invalid_argument` when the host has no such address */
export async function assertPortFree(host: string, port: number, setting: string): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(port, host, resolve);
    });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EADDRNOTAVAIL") {
      throw new HearthError("invalid_argument", {
        message: `This host has no address ${host}; name one that it has with --address.`,
        details: { field: "address" },
        cause,
      });
    }
    throw new HearthError("conflict", {
      message: `Something else listens on ${host}:${port}; choose another port with ${setting}.`,
      details: { host, port, setting },
      cause,
    });
  }
  server.close();
  await once(server, "close");
}

/** A loopback port that nobody has now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (typeof address === "object" && address !== null) return address.port;
  throw new HearthError("internal");
}
