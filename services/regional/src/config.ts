/** What the API process knows when it starts: the node's config, and the hash of the operator's token. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type NodeConfig, readNodeConfig } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { sha256 } from "./tokens/operator-tokens.ts";

export interface RegionalConfig {
  readonly node: NodeConfig;
  /** sha256 of the operator's token, where this host has one. The token itself is not kept. */
  readonly tokenHash: Buffer | undefined;
  /** Only this service writes here. */
  readonly directory: string;
}

/** @throws HearthError `invalid_argument`, `host_requirement_missing` when the token is no good one */
export function readRegionalConfig(env: NodeJS.ProcessEnv): RegionalConfig {
  const node = readNodeConfig(env.HEARTH_NODE_CONFIG);
  const directory = join(node.data_dir, "regional");
  return Object.freeze({ node, directory, tokenHash: readTokenHash(join(node.data_dir, "token")) });
}

/** A host that joined a region has none: its API accepts that of the first host. */
function readTokenHash(path: string): Buffer | undefined {
  let token: string;
  try {
    token = readFileSync(path, "utf8").trim();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new HearthError("host_requirement_missing", {
      message: `The operator's token at ${path} cannot be read; give it back to the user that runs Hearth.`,
      cause,
    });
  }
  if (token.length < 16) {
    throw new HearthError("host_requirement_missing", {
      message: `The operator's token at ${path} is too short to be one; remove the file and start again.`,
    });
  }
  return sha256(token);
}
