/** The DNS service of one node: a process that the host agent starts and ends. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { busLogin, connectBus, Replica } from "@hearth/cluster";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { readDnsConfig } from "./config.ts";
import { DnsService } from "./dns-service.ts";

const stopLimitMs = 4_000;
/** Kinds of facts of which there are as many as machines; the index keeps the few words that names are made of. */
const onDisk = ["machine.", "machine-name.", "idempotency."];

const config = readDnsConfig(process.env);
const { node, directory } = config;
const logger = createLogger("dns", { node_id: node.node_id });
const stopping = stopSignal();

mkdirSync(directory, { recursive: true });
// Names are answered from the disk while the bus is down.
const bus = connectBus({
  ...busLogin(node),
  name: "dns",
  retryUntil: stopping,
  onRefused: (error) => logger.error({ err: error }, "refused by the bus"),
});
bus.catch((error: unknown) => {
  if (!stopping.aborted) logger.error({ err: error }, "the bus cannot be reached");
});
const replica = new Replica({
  bus,
  path: join(directory, "replica.sqlite"),
  onDisk,
  onError: (error) => logger.warn({ err: error }, "the feed of the cluster state broke; it starts again"),
  onSetAside: ({ path, reason }) =>
    logger.error(
      { path, reason },
      "the replica's file cannot be read; it is set aside, and a new one is made",
    ),
});
replica.start();

const service = new DnsService({
  ...config,
  ...{ replica, nodeId: node.node_id, region: node.region, hostNumber: node.host_number },
});
const port = await service.start();
logger.info({ address: config.address, port, upstreams: config.upstreams.length }, "serving");
releaseStartupMemory();

await untilAborted(stopping);
setTimeout(() => process.exit(0), stopLimitMs).unref();
await service.stop();
await replica.stop();
await bus.then((open) => open.close()).catch(() => undefined);
logger.info("stopped");
process.exit(0);
