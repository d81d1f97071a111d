/**
 * The front door of one node: a process that the host agent starts and ends. It takes the connections and answers for
 * the service; with a number as its argument it is one of those that the first one starts beside itself.
 */
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { followState } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { parseUsedMachines, perMachinePrefixes } from "@hearth/machine";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger, MetricsServer } from "@hearth/telemetry";
import { shareOverBus } from "./choosing/bus-share.ts";
import { SharedLoads } from "./choosing/shared-loads.ts";
import { StartOnce } from "./choosing/start-once.ts";
import { readIngressConfig } from "./config.ts";
import { busyShare } from "./doors/busy-share.ts";
import { DoorSet } from "./doors/door-set.ts";
import { SecondDoor } from "./doors/second-door.ts";
import { Ingress, type IngressDeps } from "./ingress.ts";
import { defaultLimits } from "./limits.ts";
import { accessLines } from "./telemetry/access-lines.ts";
import { bufferedLines } from "./telemetry/access-log.ts";
import { openMetrics, openMetricsType } from "./telemetry/metrics-text.ts";
import { Challenges } from "./tls/challenges.ts";
import { LocalCa } from "./tls/local-ca.ts";
import { regionKeys } from "./tls/region-secret.ts";

const stopLimitMs = 5_000;
const retryPortMs = 2_000;
/** Routes that are older than this are not served by a process that has just begun. */
const freshMs = 5_000;
const freshLookMs = 100;
/** Less than the API waits, which asks as soon as it has told of the challenge. */
const challengeLimitMs = 5_000;

const config = readIngressConfig(process.env);
const { node, directory, domain, sealSeedPath } = config;
const number = Number(process.argv[2] ?? 0);
const names = { node_id: node.node_id, ...(number === 0 ? {} : { door: number }) };
const logger = createLogger("ingress", names);
// All processes append to one file, each piece whole.
const lines = bufferedLines((text) => writeSync(2, text));
const stopping = stopSignal();

// Traffic is routed by what is on the disk while the bus is down.
const state = followState({
  ...{ node, stopping, logger, onDisk: perMachinePrefixes },
  name: number === 0 ? "ingress" : `ingress-${number}`,
  directory: number === 0 ? directory : join(directory, "doors", String(number)),
});

const ask = async (path: readonly [string, string, string], body: object, timeoutMs: number) => {
  const bus = state.bus();
  if (bus === undefined) throw new HearthError("unavailable", { message: "The bus does not answer." });
  await bus.request(...path, body, { timeoutMs, signal: stopping });
};
const { startMs, tellUsedLimitMs } = defaultLimits;
const authority = new LocalCa(directory);
const log: IngressDeps["log"] = (fields, text) => logger.info(fields, text);
let ingress: Ingress | undefined;
const loads = new SharedLoads({
  heard: ([machineId, internalPort]) => ingress?.othersChanged(machineId, internalPort),
  nowMs: () => performance.now(),
});
const shared = {
  replica: state.replica,
  nodeId: node.node_id,
  domain,
  ...(config.proxiedFrom === undefined ? {} : { proxiedFrom: config.proxiedFrom }),
  limits: defaultLimits,
  accessLog: accessLines({ service: "ingress", ...names }, lines),
  log,
  issue: (wanted) => authority.issue(wanted),
  openKey: regionKeys({ replica: state.replica, nodeId: node.node_id, sealSeedPath }),
  tellUsed: (nodeId, machine_ids) => ask([nodeId, "ingress", "used"], { machine_ids }, tellUsedLimitMs),
  otherLoads: loads,
  loadChanged: (machineId, internalPort, active) => loads.own(machineId, internalPort, active),
} satisfies Partial<IngressDeps>;

if (number === 0) await serveFirst();
else await serveBeside();
lines.flush();
await state.stop();
logger.info("stopped");
process.exit(0);

async function serveFirst(): Promise<void> {
  const ticketKeys = randomBytes(48);
  let doors: DoorSet | undefined;
  const starts = new StartOnce({
    machine: (id) => ingress?.table.machine(id),
    start: ({ nodeId, id }) => ask([nodeId, "worker", "wake"], { machine_id: id }, startMs),
    nowMs: () => performance.now(),
  });
  const startMachine: IngressDeps["startMachine"] = (machine) => starts.start(machine);
  const first = new Ingress({
    ...shared,
    ticketKeys,
    startMachine,
    stopMachine: (id) => ask([node.node_id, "worker", "stop"], { machine_id: id }, startMs),
    draining: (machineId, isDraining) => doors?.tell({ type: "draining", machineId, isDraining }),
    handOver: (socket, arrival, over) => doors?.handOver(socket, arrival, over) === true,
  });
  ingress = first;
  const metrics = new MetricsServer({
    metrics: async () => openMetrics((await doors?.metrics(first.metrics())) ?? first.metrics()),
    metricsType: openMetricsType,
    health: () => ({ problems: first.problems() }),
  });
  await metrics.start(config.socketPath).catch((error: unknown) => {
    logger.warn({ err: error }, "its metrics cannot be read");
  });

  /** Sentences about what does not work; the agent passes them on. */
  let portProblem: string | undefined;
  const serving = state.connecting
    .then((bus) => {
      const sharing = shareOverBus({ bus, nodeId: node.node_id, loads, log });
      const answering = bus.serve(node.node_id, "ingress", {
        used: (payload) => first.used(parseUsedMachines(payload).machine_ids),
        health: () => ({
          problems: [...(portProblem === undefined ? [] : [portProblem]), ...first.problems()],
          processes: doors?.serving ?? 1,
        }),
        challenge: async (payload) => {
          const question = Challenges.readQuestion(payload);
          const shown = await Promise.all([
            first.challenges.shows(question, challengeLimitMs),
            doors?.show(question, challengeLimitMs),
          ]);
          return { shown: shown.every((each) => each !== false) };
        },
      });
      return { sharing, answering };
    })
    .catch(() => undefined);

  while (!stopping.aborted) {
    try {
      const ports = await first.start(config);
      logger.info({ ...ports, domain }, "serving");
      portProblem = undefined;
      doors = new DoorSet({
        ...{ loads, ticketKeys, log, startMachine, httpsPort: ports.https, growth: config.processes },
        spawn: spawnDoor,
        ownConnections: () => first.connections,
        ownShare: busyShare(),
      });
      doors.start();
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
  await Promise.all([first.stop(), doors?.stop(defaultLimits.drainMs + 500)]);
  await metrics.stop();
  loads.stop();
  const open = await serving;
  open?.sharing[Symbol.dispose]();
  await open?.answering.stop();
}

/** Its output is this process's, and it reads the same file of settings. */
function spawnDoor(door: number): ChildProcess {
  return fork(process.argv[1] ?? "", [String(door)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
}

async function serveBeside(): Promise<void> {
  const second = new SecondDoor({
    channel: process,
    loads,
    caughtUp: async () => {
      while (!stopping.aborted && state.replica.ageMs > freshMs)
        await delay(freshLookMs, undefined, { signal: stopping }).catch(() => undefined);
    },
    makeIngress: (ticketKeys) => {
      ingress = new Ingress({
        ...shared,
        ticketKeys,
        startMachine: (machine) => second.startMachine(machine),
        // The first process judges what nobody needs.
        stopMachine: () => Promise.reject(new HearthError("not_implemented")),
      });
      return ingress;
    },
  });
  releaseStartupMemory();
  const left = await second.run(stopping);
  setTimeout(() => process.exit(0), stopLimitMs).unref();
  await left?.stop();
  second.tellMetrics();
}
