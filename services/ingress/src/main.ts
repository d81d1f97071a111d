/** The front door of one node: a process that the host agent starts and ends. */
import { writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { followState } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { perMachinePrefixes } from "@hearth/machine";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import { bufferedLines } from "./access-log.ts";
import { Challenges } from "./challenges.ts";
import { readIngressConfig } from "./config.ts";
import { Ingress } from "./ingress.ts";
import { defaultLimits } from "./limits.ts";
import { LocalCa } from "./local-ca.ts";
import { regionKeys } from "./region-secret.ts";

const stopLimitMs = 5_000;
const retryPortMs = 2_000;
/** Less than the API waits, which asks as soon as it has told of the challenge. */
const challengeLimitMs = 5_000;

const config = readIngressConfig(process.env);
const { node, directory, domain, sealSeedPath } = config;
const logger = createLogger("ingress", { node_id: node.node_id });
const lines = bufferedLines((text) => writeSync(2, text));
const access = createLogger("ingress", { node_id: node.node_id }, { destination: lines });
const stopping = stopSignal();

// Traffic is routed by what is on the disk while the bus is down.
const state = followState({ node, name: "ingress", directory, onDisk: perMachinePrefixes, stopping, logger });

const command = async (name: "start" | "stop", machineId: string): Promise<void> => {
  const bus = state.bus();
  if (bus === undefined) throw new HearthError("unavailable", { message: "The bus does not answer." });
  const options = { timeoutMs: defaultLimits.startMs, signal: stopping };
  await bus.request(node.node_id, "worker", name, { machine_id: machineId }, options);
};
const authority = new LocalCa(directory);
const ingress = new Ingress({
  replica: state.replica,
  nodeId: node.node_id,
  // The firewall of a host lets what comes over the mesh to no guest but from one of its network, and no host is that.
  reaches: (nodeId) => nodeId === node.node_id,
  domain,
  limits: defaultLimits,
  accessLog: (event) => access.info(event, event.event),
  log: (fields, text) => logger.info(fields, text),
  issue: (names) => authority.issue(names),
  openKey: regionKeys({ replica: state.replica, nodeId: node.node_id, sealSeedPath }),
  startMachine: (id) => command("start", id),
  stopMachine: (id) => command("stop", id),
});

/** Sentences about what does not work; the agent passes them on. */
let portProblem: string | undefined;
const serving = state.connecting
  .then((open) =>
    open.serve(node.node_id, "ingress", {
      health: () => ({
        problems: [...(portProblem === undefined ? [] : [portProblem]), ...ingress.problems()],
      }),
      challenge: async (question) => ({
        shown: await ingress.challenges.shows(Challenges.readQuestion(question), challengeLimitMs),
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
await state.stop();
logger.info("stopped");
process.exit(0);
