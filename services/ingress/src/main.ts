/** The front door of one node: a process that the host agent starts and ends. */
import { writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { followState } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { parseUsedMachines, perMachinePrefixes } from "@hearth/machine";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger, MetricsServer } from "@hearth/telemetry";
import { bufferedLines } from "./access-log.ts";
import { readIngressConfig } from "./config.ts";
import { Ingress } from "./ingress.ts";
import { defaultLimits } from "./limits.ts";
import { LocalCa } from "./local-ca.ts";
import { openMetrics, openMetricsType } from "./metrics-text.ts";

const stopLimitMs = 5_000;
const retryPortMs = 2_000;

const config = readIngressConfig(process.env);
const { node, directory, domain } = config;
const logger = createLogger("ingress", { node_id: node.node_id });
const lines = bufferedLines((text) => writeSync(2, text));
const access = createLogger("ingress", { node_id: node.node_id }, { destination: lines });
const stopping = stopSignal();

// Traffic is routed by what is on the disk while the bus is down.
const state = followState({ node, name: "ingress", directory, onDisk: perMachinePrefixes, stopping, logger });

const ask = async (path: readonly [string, string, string], body: object, timeoutMs: number) => {
  const bus = state.bus();
  if (bus === undefined) throw new HearthError("unavailable", { message: "The bus does not answer." });
  await bus.request(...path, body, { timeoutMs, signal: stopping });
};
const { startMs, tellUsedLimitMs } = defaultLimits;
const authority = new LocalCa(directory);
const ingress = new Ingress({
  replica: state.replica,
  nodeId: node.node_id,
  domain,
  ...(config.proxiedFrom === undefined ? {} : { proxiedFrom: config.proxiedFrom }),
  limits: defaultLimits,
  accessLog: (event) => access.info(event, event.event),
  log: (fields, text) => logger.info(fields, text),
  issue: (names) => authority.issue(names),
  startMachine: ({ nodeId, id }) => ask([nodeId, "worker", "wake"], { machine_id: id }, startMs),
  stopMachine: (id) => ask([node.node_id, "worker", "stop"], { machine_id: id }, startMs),
  tellUsed: (nodeId, machine_ids) => ask([nodeId, "ingress", "used"], { machine_ids }, tellUsedLimitMs),
});

const metrics = new MetricsServer({
  metrics: () => openMetrics(ingress.metrics()),
  metricsType: openMetricsType,
  health: () => ({ problems: ingress.problems() }),
});
await metrics.start(config.socketPath).catch((error: unknown) => {
  logger.warn({ err: error }, "its metrics cannot be read");
});

/** Sentences about what does not work; the agent passes them on. */
let portProblem: string | undefined;
const serving = state.connecting
  .then((open) =>
    open.serve(node.node_id, "ingress", {
      used: (payload) => ingress.used(parseUsedMachines(payload).machine_ids),
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
await metrics.stop();
lines.flush();
await (await serving)?.stop();
await state.stop();
logger.info("stopped");
process.exit(0);
