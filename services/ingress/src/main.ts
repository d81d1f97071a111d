/** The front door of one node: a process that the host agent starts and ends. */
import { mkdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Bus, busLogin, connectBus, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { bufferedLines } from "./access-log.ts";
import { readIngressConfig } from "./config.ts";
import { Ingress } from "./ingress.ts";
import { defaultLimits } from "./limits.ts";
import { LocalCa } from "./local-ca.ts";

const stopLimitMs = 5_000;
const retryPortMs = 2_000;
/** Kinds of facts of which there are as many as machines; the table keeps what routes are made of. */
const onDisk = ["machine.", "machine-name.", "idempotency."];

const config = readIngressConfig(process.env);
const { node, directory, domain } = config;
const logger = createLogger("ingress", { node_id: node.node_id });
const lines = bufferedLines((text) => writeSync(2, text));
const access = createLogger("ingress", { node_id: node.node_id }, { destination: lines });
const stopping = stopSignal();

mkdirSync(directory, { recursive: true, mode: 0o700 });
let connected: Bus | undefined;
// Traffic is routed by what is on the disk while the bus is down.
const bus = connectBus({
  ...busLogin(node),
  name: "ingress",
  retryUntil: stopping,
  onRefused: (error) => logger.error({ err: error }, "refused by the bus"),
});
bus.then(
  (open) => {
    connected = open;
  },
  (error: unknown) => {
    if (!stopping.aborted) logger.error({ err: error }, "the bus cannot be reached");
  },
);
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

const command = async (name: "start" | "stop", machineId: string): Promise<void> => {
  if (connected?.isConnected !== true)
    throw new HearthError("unavailable", { message: "The bus does not answer." });
  const options = { timeoutMs: defaultLimits.startMs, signal: stopping };
  await connected.request(node.node_id, "worker", name, { machine_id: machineId }, options);
};
const authority = new LocalCa(directory);
const ingress = new Ingress({
  replica,
  nodeId: node.node_id,
  domain,
  limits: defaultLimits,
  accessLog: (event) => access.info(event, event.event),
  log: (fields, text) => logger.info(fields, text),
  issue: (names) => authority.issue(names),
  startMachine: (id) => command("start", id),
  stopMachine: (id) => command("stop", id),
});

/** Sentences about what does not work; the agent passes them on. */
let portProblem: string | undefined;
const serving = bus
  .then((open) =>
    open.serve(node.node_id, "ingress", {
      health: () => ({
        problems: [...(portProblem === undefined ? [] : [portProblem]), ...ingress.problems()],
      }),
    }),
  )
  .catch(() => undefined);

while (!stopping.aborted) {
  try {
    logger.info({ ...(await ingress.start(config)), domain }, "serving");
    portProblem = undefined;
    break;
  } catch (error) {
    const { code = "", port } = error as NodeJS.ErrnoException & { readonly port?: number };
    if (portProblem === undefined)
      logger.warn({ err: error }, "a port of the front door cannot be had; it tries on");
    portProblem = `The front door cannot listen on port ${port ?? "?"} (${code}); free it, or set HEARTH_HTTP_PORT and HEARTH_HTTPS_PORT.`;
    await delay(retryPortMs, undefined, { signal: stopping }).catch(() => undefined);
  }
}
releaseStartupMemory();

await untilAborted(stopping);
setTimeout(() => process.exit(0), stopLimitMs).unref();
await ingress.stop();
lines.flush();
await (await serving)?.stop();
await replica.stop();
await connected?.close();
logger.info("stopped");
process.exit(0);
