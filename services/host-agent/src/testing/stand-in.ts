/**
 * Stands in for a service of a node where only its being there matters: it answers the commands that the agent
 * asks, on the bus of the node that its config names. `fault <name>` in the data directory makes it misbehave.
 */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { busLogin, connectBus, type Handler, type NodeConfig, readNodeConfig } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";

export async function standIn(
  name: string,
  commands: (config: NodeConfig) => Record<string, Handler>,
): Promise<NodeConfig> {
  const config = readNodeConfig(process.env.HEARTH_NODE_CONFIG);
  if (existsSync(join(config.data_dir, `fault-${name}`))) process.exit(3);
  process.once("SIGTERM", () => process.exit(0));
  const bus = await connectBus({ ...busLogin(config), name, retryUntil: new AbortController().signal });
  bus.serve(config.node_id, name, commands(config));
  await bus.flush();
  return config;
}

/** Keeps what was asked of it in the data directory, and refuses while a file there says so. */
export const stopAll =
  (config: NodeConfig): Handler =>
  (payload) => {
    if (existsSync(join(config.data_dir, "refuse-stop"))) throw new HearthError("deadline_exceeded");
    writeFileSync(join(config.data_dir, "stopped.json"), JSON.stringify(payload));
    return null;
  };
