/** The image service of one node: a process that the host agent starts and ends. */
import { join } from "node:path";
import { busLogin, connectBus, readNodeConfig } from "@hearth/cluster";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { HoldBook } from "./hold-book.ts";
import { ImageService, imageServiceName } from "./image-service.ts";
import { ImageStore } from "./image-store.ts";
import { readRegistries } from "./registry-settings.ts";

const stopLimitMs = 4_000;

const config = readNodeConfig(process.env.HEARTH_NODE_CONFIG);
const logger = createLogger(imageServiceName, { node_id: config.node_id });
const directory = join(config.data_dir, imageServiceName);
const registries = join(config.data_dir, "registries.json");

const stopping = stopSignal();

const store = new ImageStore({
  directory,
  registryOptions: (registry) => readRegistries(registries)(registry),
});
await store.start();
const holds = new HoldBook(join(directory, "holders"), store);
await holds.start();
const collected = await store.collect();
const bus = await connectBus({
  ...busLogin(config),
  name: imageServiceName,
  retryUntil: stopping,
  onRefused: (error) => logger.error({ err: error }, "refused by the bus"),
});
const service = new ImageService({
  store,
  holds,
  nodeId: config.node_id,
  workDirectory: join(directory, "work"),
});
const serving = service.serve(bus);
await bus.flush();
logger.info({ collected: collected.length }, "serving");
releaseStartupMemory();

await untilAborted(stopping);
// What is under way is cut off in the end: files appear by rename, so nothing half is left for the next start.
setTimeout(() => process.exit(0), stopLimitMs).unref();
await serving[Symbol.asyncDispose]();
await bus.close();
logger.info("stopped");
process.exit(0);
