/** All that the command reads of its environment, once. No other module of the command line reads it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import packageFile from "../package.json" with { type: "json" };

export interface Environment {
  readonly apiUrl: string;
  /** Whether somebody chose the address, so that it may be of another host. */
  readonly isApiChosen: boolean;
  /** Read when the first call needs it; undefined when there is none. */
  readonly readToken: () => string | undefined;
  readonly tokenPath: string;
  /** Of the lease under which this command changes machines. */
  readonly leaseNonce: string | undefined;
  readonly dataDir: string;
  /** Where programs are looked for. */
  readonly path: string;
  readonly version: string;
  /** Stacks of errors are shown. */
  readonly isDebug: boolean;
  /** A variable that the user wants passed on, as with `-e NAME`. */
  readonly lookUp: (name: string) => string | undefined;
}

const defaultDataDir = "/var/lib/hearth";
const defaultRunDir = "/run/hearth";
const defaultApiPort = "4280";

export function readEnvironment(variables: NodeJS.ProcessEnv): Environment {
  const dataDir = variables.HEARTH_DATA_DIR || defaultDataDir;
  const tokenPath = join(dataDir, "token");
  const chosen = variables.HEARTH_API_URL || undefined;
  const runDir = variables.HEARTH_RUN_DIR || defaultRunDir;
  return Object.freeze({
    apiUrl: chosen ?? readApiUrl(runDir) ?? `http://127.0.0.1:${variables.HEARTH_API_PORT || defaultApiPort}`,
    isApiChosen: chosen !== undefined,
    readToken: () => variables.HEARTH_TOKEN || readTokenFile(tokenPath),
    tokenPath,
    leaseNonce: variables.HEARTH_LEASE_NONCE || undefined,
    dataDir,
    path: [variables.PATH ?? "/usr/bin:/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"].join(":"),
    version: packageFile.version,
    isDebug: (variables.HEARTH_DEBUG ?? "") !== "",
    lookUp: (name: string) => variables[name],
  });
}

/** Where the API of this host listens, or the one that its region told it of, as the host's agent has written it. */
function readApiUrl(runDir: string): string | undefined {
  try {
    return readFileSync(join(runDir, "api-url"), "utf8").trim() || undefined;
  } catch {
    return undefined;
  }
}

function readTokenFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim() || undefined;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EACCES") {
      throw new HearthError("permission_denied", {
        message: `You may not read the token at ${path}; run this as its owner, or set HEARTH_TOKEN.`,
        cause,
      });
    }
    return undefined;
  }
}
