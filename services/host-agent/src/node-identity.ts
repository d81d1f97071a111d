/**
 * What a node keeps for its whole life: its id, the cluster's prefix, and the token of its operator. Each is
 * made at random once, and is on disk before it is used.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { formatClusterPrefix, newClusterPrefix, parseClusterPrefix } from "@hearth/network";

export interface NodeIdentity {
  readonly node_id: string;
  readonly prefix: string;
  readonly host_number: number;
}

export const tokenPath = (dataDir: string): string => join(dataDir, "token");

/** @throws HearthError `invalid_argument` when the file is there and cannot be understood */
export function readIdentity(dataDir: string): NodeIdentity {
  const path = join(dataDir, "node.json");
  const text = readIfThere(path);
  if (text !== undefined) return parseIdentity(path, text);
  const identity: NodeIdentity = {
    node_id: `n${randomBytes(5).toString("hex")}`,
    prefix: formatClusterPrefix(newClusterPrefix(randomBytes)),
    host_number: 1,
  };
  writeWhole(path, JSON.stringify(identity), 0o644);
  return identity;
}

/** Makes the operator's token when there is none; keeps it private in any case. */
export function ensureToken(dataDir: string): void {
  const path = tokenPath(dataDir);
  if (readIfThere(path) === undefined) writeWhole(path, `${randomBytes(32).toString("base64url")}\n`, 0o600);
  else chmodSync(path, 0o600);
}

/** A reader sees all of it or none, and after a crash it is whole or not there. */
export function writeWhole(path: string, text: string, mode: number): void {
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, text, { mode, flush: true });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

export function makeDirectory(path: string, mode: number): void {
  mkdirSync(path, { recursive: true, mode });
}

function parseIdentity(path: string, text: string): NodeIdentity {
  try {
    const { node_id, prefix, host_number } = JSON.parse(text) as NodeIdentity;
    parseClusterPrefix(prefix);
    if (/^[a-z0-9]{1,32}$/.test(node_id) && Number.isInteger(host_number)) {
      return { node_id, prefix, host_number };
    }
  } catch {
    // Told below. A new identity beside old machines would lose their addresses, so none is made up.
  }
  throw new HearthError("invalid_argument", {
    message: `${path} is damaged; restore it, or remove the whole data directory to begin anew.`,
  });
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
