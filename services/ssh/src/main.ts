/** The SSH gateway of one node: the host agent starts and ends it. */
import { isIPv6 } from "node:net";
import { readNodeConfig } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { authorityWhenThere } from "./authority-file.ts";
import { SshGateway } from "./ssh-gateway.ts";

const { node_id, ssh, api } = readNodeConfig(process.env.HEARTH_NODE_CONFIG);
if (ssh === undefined)
  throw new HearthError("invalid_argument", { message: "The node's config says nothing of an SSH gateway." });
const logger = createLogger("ssh", { node_id });
const stopping = stopSignal();

const authority = await authorityWhenThere(ssh.secret_path, stopping);
if (authority === undefined) process.exit(0);
const apiUrl = `http://${isIPv6(api.host) ? `[${api.host}]` : api.host}:${api.port}`;
const gateway = new SshGateway({ authority, apiUrl, nowMs: Date.now, logger });
const port = await gateway.start(ssh);
logger.info({ host: ssh.host, port }, "serving");
releaseStartupMemory();

await untilAborted(stopping);
await gateway.stop();
logger.info("stopped");
process.exit(0);
