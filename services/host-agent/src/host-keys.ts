/** The keys of a host: made once, each for who needs it, in files that root alone may read. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { ensureSealKey, ensureUserKey } from "@hearth/cluster";
import { makeDirectory, readIfThere, writeWhole } from "./node-identity.ts";

export interface HostKeys {
  /** Public keys. */
  readonly node: string;
  readonly api: string;
  readonly keeper: string;
  readonly seal: string;
}

const directoryOf = (dataDir: string): string => join(dataDir, "credentials");

export const keyPaths = (dataDir: string) => ({
  node: join(directoryOf(dataDir), "node.seed"),
  api: join(directoryOf(dataDir), "api.seed"),
  /** The agent's own, with which it keeps the state stream on a host of the bus. */
  keeper: join(directoryOf(dataDir), "keeper.seed"),
  seal: join(directoryOf(dataDir), "seal.seed"),
  /** What the servers of the bus know each other by. */
  route: join(directoryOf(dataDir), "route.secret"),
});

/** All of them, whatever the host is to be: what it may be is for its region to say. */
export function ensureHostKeys(dataDir: string): HostKeys {
  makeDirectory(directoryOf(dataDir), 0o700);
  const paths = keyPaths(dataDir);
  return {
    node: ensureUserKey(paths.node),
    api: ensureUserKey(paths.api),
    keeper: ensureUserKey(paths.keeper),
    seal: ensureSealKey(paths.seal),
  };
}

export const readRouteSecret = (dataDir: string): string | undefined =>
  readIfThere(keyPaths(dataDir).route)?.trim();

export function ensureRouteSecret(dataDir: string): string {
  const known = readRouteSecret(dataDir);
  if (known !== undefined) return known;
  const secret = randomBytes(32).toString("hex");
  keepRouteSecret(dataDir, secret);
  return secret;
}

export function keepRouteSecret(dataDir: string, secret: string): void {
  writeWhole(keyPaths(dataDir).route, `${secret}\n`, 0o600);
}
