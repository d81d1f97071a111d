/**
 * One agent a data directory. The lock is a file that names the process; it is free when that process is gone,
 * so a crash needs no cleaning up. The name is linked, never written in place: whoever reads it reads all of it.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { identify, isAlive, type ProcessIdentity } from "./process-identity.ts";

export interface LockHolder extends ProcessIdentity {
  /** Where the holder's control socket is. */
  readonly runDir: string;
}

const lockPath = (dataDir: string): string => join(dataDir, "agent.lock");

/** The live agent of a data directory. */
export function lockHolder(dataDir: string): LockHolder | undefined {
  const holder = readLock(lockPath(dataDir));
  return holder !== undefined && isAlive(holder) ? holder : undefined;
}

/** @throws HearthError `conflict` when another agent has the directory */
export function acquireLock(dataDir: string, runDir: string): Disposable {
  mkdirSync(dataDir, { recursive: true, mode: 0o755 });
  const path = lockPath(dataDir);
  const mine = `${path}.${process.pid}`;
  const self: LockHolder = { pid: process.pid, startTime: identify(process.pid)?.startTime ?? "", runDir };
  writeFileSync(mine, JSON.stringify(self));
  try {
    while (!tryLink(mine, path)) {
      const holder = readLock(path);
      if (holder !== undefined && isAlive(holder)) throw taken(dataDir, holder);
      dropStale(path);
    }
  } finally {
    rmSync(mine, { force: true });
  }
  const release = (): void => {
    if (readLock(path)?.startTime === self.startTime) rmSync(path, { force: true });
  };
  return { [Symbol.dispose]: release };
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/**
 * Of two that find the same dead holder, the second may move away what the first has just linked. It sees so
 * and puts it back.
 */
function dropStale(path: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const moved = readLock(aside);
  if (moved !== undefined && isAlive(moved)) tryLink(aside, path);
  rmSync(aside, { force: true });
}

function readLock(path: string): LockHolder | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as LockHolder;
  } catch {
    // Not there, or not a lock: either way nobody holds it.
    return undefined;
  }
}

const taken = (dataDir: string, { pid }: LockHolder): HearthError =>
  new HearthError("conflict", {
    message: `Another host agent (pid ${pid}) runs on ${dataDir}; stop it with \`hearth down\`.`,
    details: { pid },
  });
