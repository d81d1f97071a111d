/** The process around a worker: its lock, its bus, its database, and a stop that lets go in time. */
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeSync } from "node:fs";
import type { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { busLogin, connectBus, FactStore, type NodeConfig } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { NetworkExecutor } from "@hearth/network";
import { releaseStartupMemory, stopSignal, untilAborted } from "@hearth/process";
import { createLogger } from "@hearth/telemetry";
import type { Vmm } from "@hearth/vmm";
import { HostPaths } from "./host/host-paths.ts";
import { crashPoint } from "./journal/crash-point.ts";
import { databaseError } from "./journal/database-fault.ts";
import { openWorkerDatabase } from "./journal/database-open.ts";
import { BusImagesClient } from "./runs/images-client.ts";
import { lockDirectory } from "./single-worker.ts";
import { Worker, workerServiceName } from "./worker.ts";
import type { WorkerLimits } from "./worker-deps.ts";

const stopLimitMs = 4_500;

export interface WorkerProcess {
  readonly config: NodeConfig;
  readonly makeVmm: () => Vmm;
  /** Of the host's present boot; what the kernel says when absent. */
  readonly bootId?: string;
  readonly limits?: Partial<WorkerLimits>;
}

/** Serves until a signal asks it to stop, and ends the process. */
export async function runWorker({ config, makeVmm, bootId, limits }: WorkerProcess): Promise<never> {
  const logger = createLogger(
    workerServiceName,
    { node_id: config.node_id },
    { destination: { write: (line) => void writeSync(1, line) } },
  );
  const stopping = stopSignal();

  const paths = new HostPaths(config);
  mkdirSync(paths.data, { recursive: true, mode: 0o700 });
  using _lock = lockDirectory(paths.data);
  /** The host agent tells people the last line that is fatal. */
  const refuse = (thrown: unknown): never => {
    const error = databaseError(paths.database, thrown);
    logger.fatal({ err: error }, HearthError.from(error).message);
    process.exit(1);
  };
  let database: DatabaseSync;
  try {
    database = openWorkerDatabase(paths.database);
  } catch (error) {
    return refuse(error);
  }
  const bus = await connectBus({
    ...busLogin(config),
    name: workerServiceName,
    retryUntil: stopping,
    onRefused: (error) => logger.error({ err: error }, "refused by the bus"),
  });
  const worker = new Worker(
    {
      config,
      bus,
      facts: new FactStore({ bus }),
      makeVmm,
      network: new NetworkExecutor({ beforeChange: (what) => crashPoint(`network ${what}`, "before") }),
      images: new BusImagesClient(bus, config.node_id),
      clock: {
        nowMs: () => Date.now(),
        sleep: async (ms, signal) => await delay(ms, undefined, signal === undefined ? {} : { signal }),
      },
      randomBytes,
      logger,
      bootId: bootId ?? readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
      ...(limits === undefined ? {} : { limits }),
      onCorrupt: refuse,
    },
    database,
  );
  await worker.start().catch(refuse);
  logger.info("serving");
  releaseStartupMemory();

  await untilAborted(stopping);
  // What is under way is on disk as far as it came; the next worker goes on from there.
  setTimeout(() => process.exit(0), stopLimitMs).unref();
  await worker.stop();
  await bus.close();
  logger.info("stopped");
  process.exit(0);
}
