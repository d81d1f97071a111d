/** The keys of a host: made once, each for who needs it, in files that root alone may read. */
import { join } from "node:path";
import { ensureSealKey, ensureUserKey } from "@hearth/cluster";
import { makeDirectory } from "./node-identity.ts";

export interface HostKeys {
  /** Public keys. */
  readonly node: string;
  readonly api: string;
  readonly keeper: string;
  /** With which the agent says who the servers of the bus are. */
  readonly operator: string;
  readonly seal: string;
}

const directoryOf = (dataDir: string): string => join(dataDir, "credentials");

export const keyPaths = (dataDir: string) => ({
  node: join(directoryOf(dataDir), "node.seed"),
  api: join(directoryOf(dataDir), "api.seed"),
  /** The agent's own, with which it keeps the state stream on a host of the bus. */
  keeper: join(directoryOf(dataDir), "keeper.seed"),
  operator: join(directoryOf(dataDir), "operator.seed"),
  seal: join(directoryOf(dataDir), "seal.seed"),
  /** What the servers of the bus know each other by, and what they will. */
  route: join(directoryOf(dataDir), "route.secret"),
  nextRoute: join(directoryOf(dataDir), "route.next"),
});

/** All of them, whatever the host is to be: what it may be is for its region to say. */
export function ensureHostKeys(dataDir: string): HostKeys {
  makeDirectory(directoryOf(dataDir), 0o700);
  const paths = keyPaths(dataDir);
  return {
    node: ensureUserKey(paths.node),
    api: ensureUserKey(paths.api),
    keeper: ensureUserKey(paths.keeper),
    operator: ensureUserKey(paths.operator),
    seal: ensureSealKey(paths.seal),
  };
}
