/** The DNS service of one node: a process that the host agent starts and ends. */
import { followState } from "@hearth/cluster";
import { perMachinePrefixes } from "@hearth/machine";
import { NetworkExecutor } from "@hearth/network";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { readDnsConfig } from "./config.ts";
import { datagramWay } from "./datagrams/datagrams.ts";
import { DnsService } from "./dns-service.ts";

const stopLimitMs = 4_000;

const config = readDnsConfig(process.env);
const { node, directory } = config;
const datagrams = datagramWay(config.datagramsPath);
const logger = createLogger("dns", { node_id: node.node_id });
const stopping = stopSignal();

// Names are answered from the disk while the bus is down.
const state = followState({ node, name: "dns", directory, onDisk: perMachinePrefixes, stopping, logger });

const network = new NetworkExecutor();
const service = new DnsService({
  ...{ ...config, datagrams, network, logger },
  ...{ replica: state.replica, nodeId: node.node_id, region: node.region, hostNumber: node.host_number },
});
const port = await service.start();
const { way } = datagrams;
logger.info({ address: config.address, port, upstreams: config.upstreams.length, datagrams: way }, "serving");
if (datagrams.reason !== undefined)
  logger.warn({ reason: datagrams.reason }, "datagrams go one by one, which costs more for each");
releaseStartupMemory();

await untilAborted(stopping);
setTimeout(() => process.exit(0), stopLimitMs).unref();
await service.stop();
network.close();
await state.stop();
logger.info("stopped");
process.exit(0);
