/**
 * What a node keeps for its whole life: its id, its place in a region, and the token of its operator. Each is
 * on disk before it is used. A host that made its region drew the region's prefix at random, once; a host that joined
 * was told what it is.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { NodeLabels, type NodeRole } from "@hearth/machine";
import { formatClusterPrefix, newClusterPrefix, parseClusterPrefix } from "@hearth/network";
import Type from "typebox";
import Value from "typebox/value";

const NodeIdentity = Type.Object({
  node_id: Type.String({ pattern: "^[a-z0-9]{1,32}$" }),
  prefix: Type.String(),
  host_number: Type.Integer({ minimum: 1, maximum: 65_535 }),
  region: Type.Optional(Type.String()),
  roles: Type.Optional(Type.Array(Type.Enum(["worker", "api", "bus"]))),
  /** Where other hosts reach this one. */
  address: Type.Optional(Type.String()),
  labels: Type.Optional(NodeLabels),
  /** What the host was told when it joined; a host that made its region has none. */
  joined: Type.Optional(
    Type.Object({
      bus_servers: Type.Array(Type.String(), { minItems: 1 }),
      api_urls: Type.Array(Type.String(), { minItems: 1 }),
    }),
  ),
});
export type NodeIdentity = Type.Static<typeof NodeIdentity>;

/** The host that makes a region is all that a region needs. */
export const firstRoles: readonly NodeRole[] = ["worker", "api", "bus"];

export const rolesOf = ({ roles = [...firstRoles] }: NodeIdentity): readonly NodeRole[] => roles;

export const tokenPath = (dataDir: string): string => join(dataDir, "token");
const identityPath = (dataDir: string): string => join(dataDir, "node.json");

/** Undefined when this host is nothing yet. @throws HearthError `invalid_argument` when it cannot be understood */
export function findIdentity(dataDir: string): NodeIdentity | undefined {
  const path = identityPath(dataDir);
  const text = readIfThere(path);
  return text === undefined ? undefined : parseIdentity(path, text);
}

export interface Wanted {
  readonly region?: string;
  readonly address?: string;
  /** All of them; those of before when absent. */
  readonly labels?: NodeLabels;
}

/**
 * What this host is, with what is wanted of it now; a host that is nothing yet makes a region.
 * @throws HearthError `already_joined` when it belongs to another region than the one that is wanted
 */
export function readIdentity(dataDir: string, { region, address, labels }: Wanted = {}): NodeIdentity {
  const found = findIdentity(dataDir);
  if (found?.joined !== undefined && region !== undefined && region !== found.region) {
    throw new HearthError("already_joined", {
      message: `This host joined the region ${found.region}, not ${region}; remove ${dataDir} to begin anew.`,
      details: { region: found.region },
    });
  }
  const before = found ?? {
    node_id: newNodeId(),
    prefix: formatClusterPrefix(newClusterPrefix(randomBytes)),
    host_number: 1,
  };
  const identity: NodeIdentity = {
    ...before,
    region: region ?? before.region ?? "local",
    roles: [...rolesOf(before)],
    ...(address === undefined ? {} : { address }),
    ...(labels === undefined ? {} : { labels: { ...labels } }),
  };
  if (JSON.stringify(found) !== JSON.stringify(identity)) writeIdentity(dataDir, identity);
  return identity;
}

export function writeIdentity(dataDir: string, identity: NodeIdentity): void {
  writeWhole(identityPath(dataDir), JSON.stringify(identity), 0o644);
}

export const newNodeId = (): string => `n${randomBytes(5).toString("hex")}`;

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
    const value: unknown = JSON.parse(text);
    if (Value.Check(NodeIdentity, value)) {
      parseClusterPrefix(value.prefix);
      return value;
    }
  } catch {
    // Told below. A new identity beside old machines would lose their addresses, so none is made up.
  }
  throw new HearthError("invalid_argument", {
    message: `${path} is damaged; restore it, or remove the whole data directory to begin anew.`,
  });
}

export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
