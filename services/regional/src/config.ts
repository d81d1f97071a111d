/** What the API process knows when it starts: the node's config, and the hash of the admin token. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type NodeConfig, readNodeConfig } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";

export interface RegionalConfig {
  readonly node: NodeConfig;
  /** sha256 of the admin bearer token. The token itself is not kept. */
  readonly tokenHash: Buffer;
  /** Only this service writes here. */
  readonly directory: string;
}

/** @throws HearthError `invalid_argument`, `host_requirement_missing` when there is no token yet */
export function readRegionalConfig(env: NodeJS.ProcessEnv): RegionalConfig {
  const node = readNodeConfig(env.HEARTH_NODE_CONFIG);
  const directory = join(node.data_dir, "regional");
  return Object.freeze({ node, directory, tokenHash: readTokenHash(join(node.data_dir, "token")) });
}

export const hashToken = (token: string): Buffer => createHash("sha256").update(token).digest();

function readTokenHash(path: string): Buffer {
  let token: string;
  try {
    token = readFileSync(path, "utf8").trim();
  } catch (cause) {
    throw new HearthError("host_requirement_missing", {
      message: `There is no admin token at ${path}; start services with \`hearth up\`, which makes one.`,
      cause,
    });
  }
  if (token.length < 16) {
    throw new HearthError("host_requirement_missing", {
      message: `The admin token at ${path} is too short to be one; remove the file and start again.`,
    });
  }
  return hashToken(token);
}
