/**
 * The worker of one node: it owns the facts of its machines and everything of theirs on this host.
 *
 * Requests change records; an actor a machine brings the host to what its record says. On stopping, the worker
 * lets go and the machines run on; on starting, it finds them again.
 */
import { connect } from "node:net";
import type { DatabaseSync } from "node:sqlite";
import { type Handler, Outbox, type Serving, serveStreams } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  type Inspection,
  isWorkerCommandName,
  type MachineAnswer,
  newInstanceId,
  parseWorkerCommand,
  type WorkerCommand,
  workerCommandNames,
} from "@hearth/machine";
import { parseClusterPrefix } from "@hearth/network";
import { Admission } from "./admission.ts";
import { CheckSet } from "./check-set.ts";
import { consoleTail } from "./console-tail.ts";
import { crashPoint } from "./crash-point.ts";
import { DatabaseHealth } from "./database-health.ts";
import { drainMachines, parseStopAll } from "./drain.ts";
import { GuestCommands } from "./guest-commands.ts";
import { HostPaths } from "./host-paths.ts";
import { inspectHost } from "./inspector.ts";
import { Ledger } from "./ledger.ts";
import type { LiveMachine } from "./live-machine.ts";
import { LiveSet } from "./live-set.ts";
import { MachineActor } from "./machine-actor.ts";
import { MachineCommands } from "./machine-commands.ts";
import { factOf, privateAddress, recordOf } from "./machine-record.ts";
import type { MachineRow } from "./machine-row.ts";
import { MachineStore } from "./machine-store.ts";
import { NodeFacts } from "./node-facts.ts";
import { OrphanSweep } from "./orphan-sweep.ts";
import { RunEngine } from "./run-engine.ts";
import { runHistory } from "./run-history.ts";
import { type RunParts, slotOf } from "./run-parts.ts";
import { ScratchDisks } from "./scratch-disk.ts";
import { SlotNumbers } from "./slot-numbers.ts";
import { takeOver } from "./take-over.ts";
import { defaultLimits, type WorkerDeps } from "./worker-deps.ts";
import { workerStreamHandlers } from "./worker-streams.ts";

export const workerServiceName = "worker";
const publishedEvents = 20;
const answeredEvents = 20;
const explainedRuns = 10;

export class Worker {
  readonly #deps: WorkerDeps;
  readonly #database: DatabaseSync;
  readonly #health: DatabaseHealth;
  readonly #outbox: Outbox;
  readonly #store: MachineStore;
  readonly #engine: RunEngine;
  readonly #live: LiveSet;
  readonly #checks: CheckSet;
  readonly #parts: RunParts;
  readonly #admission: Admission;
  readonly #commands: MachineCommands;
  readonly #guests: GuestCommands;
  readonly #nodeFacts: NodeFacts;
  readonly #orphans: OrphanSweep;
  readonly #actors = new Map<string, MachineActor>();
  readonly #watchers = new Set<() => void>();
  #serving: Serving[] = [];
  #draining = false;

  /** @param database what `openWorkerDatabase` opened; closed by `stop` */
  constructor(deps: WorkerDeps, database: DatabaseSync) {
    const { config, clock, logger, randomBytes } = deps;
    const limits = { ...defaultLimits, ...deps.limits };
    const nowMs = () => clock.nowMs();
    const identity = {
      nodeId: config.node_id,
      prefix: parseClusterPrefix(config.prefix),
      hostNumber: config.host_number,
    };
    const paths = new HostPaths(config);
    this.#deps = deps;
    this.#database = database;
    this.#health = new DatabaseHealth({
      ...{ database, clock, logger, onCorrupt: deps.onCorrupt },
      probeMs: { first: limits.probeMs, longest: limits.longestProbeMs },
      onRecovered: () => {
        for (const actor of this.#actors.values()) actor.wake();
      },
    });
    this.#outbox = new Outbox({
      database,
      facts: withCrashPoints(deps.facts),
      ownerId: `worker-${ownerId(database, randomBytes)}`,
      onError: (error) => {
        this.#health.note(error);
        logger.warn({ err: error }, "a fact could not be published yet");
      },
    });
    this.#store = new MachineStore({
      database,
      outbox: this.#outbox,
      nowMs,
      newEventId: () => newInstanceId(randomBytes, nowMs),
      onChange: (machineId) => this.#changed(machineId),
      factOf: (row, events) => factOf(identity, row, events),
    });
    this.#engine = new RunEngine({
      database,
      nowMs,
      sleep: (ms, signal) => clock.sleep(ms, signal),
      consoleTail: async (machineId, begun) =>
        begun.includes("vmm") ? await consoleTail(paths.console(machineId)) : "",
      undoMs: limits.releaseMs,
      abandonMs: limits.abandonMs,
      onThrown: (error, step, { machineId, runId, signal }) => {
        this.#health.note(error);
        if (!signal.aborted)
          logger.warn({ err: error, step, machine_id: machineId, run_id: runId }, "step failed");
      },
    });
    this.#live = new LiveSet({
      makeVmm: deps.makeVmm,
      paths,
      clock,
      logger,
      abandonMs: limits.abandonMs,
      onEnd: (machineId) => this.#actors.get(machineId)?.wake(),
    });
    this.#checks = new CheckSet({
      store: this.#store,
      live: this.#live,
      clock,
      connect: deps.connect ?? connect,
      addressOf: (row) => privateAddress(identity, row),
      logger,
    });
    this.#admission = new Admission(database, config.capacity, nowMs);
    const answer = (row: MachineRow): MachineAnswer => ({
      record: recordOf(identity, row, this.#store.events(row.machineId, publishedEvents)),
      revision: row.revision,
    });
    this.#commands = new MachineCommands({
      database,
      store: this.#store,
      admission: this.#admission,
      slots: new SlotNumbers(this.#store, config.node_id),
      answer,
      nowMs,
      newNonce: () => Buffer.from(randomBytes(8)).toString("hex"),
    });
    this.#answer = answer;
    this.#guests = new GuestCommands((machineId) => this.#running(machineId));
    this.#nodeFacts = new NodeFacts({
      config,
      facts: deps.facts,
      clock,
      logger,
      everyMs: limits.nodeFactEveryMs,
      free: () =>
        this.#draining ? 0 : this.#health.guard(() => this.#admission.free(this.#store.all()).memory_mb, 0),
      problems: () => this.#health.problems,
      machines: () => this.#store.all().filter(({ state }) => state !== "destroyed").length,
    });
    this.#parts = {
      config,
      identity,
      store: this.#store,
      ledger: new Ledger(database, nowMs),
      live: this.#live,
      disks: new ScratchDisks(paths.templates),
      network: deps.network,
      images: deps.images,
      paths,
      clock,
      limits,
      logger,
      ownerUid: process.getuid?.() ?? 0,
    };
    this.#orphans = new OrphanSweep({
      nodeId: config.node_id,
      paths,
      network: deps.network,
      inspect: () => this.#inspect(),
      clock,
      logger,
      everyMs: limits.orphanSweepMs,
      graceMs: limits.orphanGraceMs,
    });
  }

  readonly #answer: (row: MachineRow) => MachineAnswer;

  async start(): Promise<void> {
    const { bus, config, bootId } = this.#deps;
    this.#outbox.start();
    await takeOver({ parts: this.#parts, engine: this.#engine, bootId });
    this.#store.republish();
    for (const { machineId } of this.#store.all()) {
      this.#actor(machineId);
      this.#checks.follow(machineId);
    }
    const streams = workerStreamHandlers({
      store: this.#store,
      live: (machineId) => this.#running(machineId),
      log: (machineId) => this.#live.log(machineId),
      until: (machineId, wanted, signal) => this.#until(machineId, wanted, signal),
    });
    this.#serving = [
      bus.serve(config.node_id, workerServiceName, this.#handlers()),
      serveStreams(bus, { nodeId: config.node_id, service: workerServiceName }, streams),
    ];
    await bus.flush();
    this.#nodeFacts.start();
    this.#orphans.start();
  }

  /** Lets go of the machines, which run on, and closes the database. */
  async stop(): Promise<void> {
    await Promise.all(this.#serving.map((serving) => serving.stop()));
    await Promise.all([this.#nodeFacts.stop(), this.#orphans.stop(), this.#health.stop()]);
    await Promise.all([...this.#actors.values()].map((actor) => actor.stop()));
    await this.#checks.release();
    await this.#live.release();
    await this.#outbox.stop();
    this.#database.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #handlers(): Record<string, Handler> {
    const handlers: Record<string, Handler> = {
      "stop-all": (payload, { signal }) => this.#told(this.#stopAll(payload, signal)),
    };
    for (const name of workerCommandNames)
      handlers[name] = (payload, { signal }) =>
        this.#told(this.#take(parseWorkerCommand(name, payload), signal));
    return handlers;
  }

  /** A fault of the database is answered as what it is, and remembered. */
  async #told<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw this.#health.note(error);
    }
  }

  async #take(command: WorkerCommand, signal: AbortSignal): Promise<unknown> {
    if (this.#draining && isWorkerCommandName(command.name) && changing.has(command.name))
      throw new HearthError("unavailable", {
        message: "This node is being taken down; its machines start again with it.",
      });
    if (changing.has(command.name)) this.#health.check();
    switch (command.name) {
      case "reserve":
        return this.#commands.reserve(command.request);
      case "commit":
        return this.#commands.commit(command.request);
      case "update":
        return this.#commands.update(command.request);
      case "start":
        return this.#commands.start(command.request);
      case "stop":
        return this.#commands.stop(command.request);
      case "restart":
        return this.#commands.restart(command.request);
      case "destroy":
        return this.#commands.destroy(command.request);
      case "set-metadata":
        return this.#commands.setMetadata(command.request);
      case "lease-get":
        return this.#commands.leases.find(command.request);
      case "lease-acquire":
        return this.#commands.leases.acquire(command.request);
      case "lease-release":
        return this.#commands.leases.release(command.request);
      case "cordon":
      case "uncordon":
        return this.#commands.cordon(command.request, command.name === "cordon");
      case "signal":
        this.#commands.checkLease(command.request);
        return await this.#guests.signal(command.request, signal);
      case "get":
        return this.#answer(this.#store.get(command.request.machine_id));
      case "list": {
        const { app, include_destroyed = false } = command.request;
        return this.#store
          .all()
          .filter(
            (row) =>
              (app === undefined || row.app === app) && (include_destroyed || row.state !== "destroyed"),
          )
          .map((row) => this.#answer(row).record);
      }
      case "events": {
        const { machine_id, limit = answeredEvents } = command.request;
        this.#store.get(machine_id);
        return this.#store.events(machine_id, limit);
      }
      case "versions":
        this.#store.get(command.request.machine_id);
        return this.#store.versions(command.request.machine_id);
      case "explain": {
        const { machine_id, limit = explainedRuns } = command.request;
        const { state } = this.#store.get(machine_id);
        const nowMs = this.#deps.clock.nowMs();
        return { machine_id, state, runs: runHistory(this.#database, machine_id, { limit, nowMs }) };
      }
      case "inspect":
        return await this.#inspect();
      case "ps":
        return await this.#guests.ps(command.request, signal);
      case "file-list":
        return await this.#guests.list(command.request, signal);
      case "file-stat":
        return await this.#guests.stat(command.request, signal);
      case "file-mkdir":
        return await this.#guests.mkdir(command.request, signal);
      case "file-remove":
        return await this.#guests.remove(command.request, signal);
      case "file-rename":
        return await this.#guests.rename(command.request, signal);
    }
  }

  /** Throws machine_not_found, vmm_not_running. */
  #running(machineId: string): LiveMachine {
    const { state } = this.#store.get(machineId);
    const live = this.#live.get(machineId);
    if (live === undefined || live.vmExit !== undefined || (state !== "started" && state !== "stopping"))
      throw new HearthError("vmm_not_running", {
        message: `The machine is ${state}; start it first.`,
        details: { state },
      });
    return live;
  }

  #inspect(): Promise<Inspection> {
    return inspectHost({
      database: this.#database,
      nodeId: this.#deps.config.node_id,
      paths: this.#parts.paths,
      slotOf: (row) => slotOf(this.#parts, row),
      nowMs: () => this.#deps.clock.nowMs(),
    });
  }

  async #stopAll(payload: unknown, signal: AbortSignal): Promise<unknown> {
    const request = parseStopAll(payload);
    this.#draining = true;
    try {
      return await drainMachines(
        {
          parts: this.#parts,
          engine: this.#engine,
          until: (quiet, limit) => this.#untilQuiet(quiet, limit),
        },
        request,
        signal,
      );
    } catch (error) {
      this.#draining = false;
      for (const actor of this.#actors.values()) actor.wake();
      throw error;
    }
  }

  #changed(machineId: string): void {
    this.#actor(machineId).wake();
    this.#checks.follow(machineId);
    this.#live.log(machineId).wake();
    this.#notify();
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  #actor(machineId: string): MachineActor {
    const known = this.#actors.get(machineId);
    if (known !== undefined) return known;
    const actor = new MachineActor(machineId, {
      parts: this.#parts,
      engine: this.#engine,
      newRunId: () => Buffer.from(this.#deps.randomBytes(8)).toString("hex"),
      draining: () => this.#draining,
      admit: (row) => this.#admission.admit(this.#store.all(), row.machineId, row.config.guest),
      logger: this.#deps.logger.child({ machine_id: machineId }),
      onActed: () => this.#notify(),
      onThrown: (error) => void this.#health.note(error),
      onPurged: async () => {
        this.#actors.delete(machineId);
        await this.#live.closeLog(machineId);
      },
    });
    this.#actors.set(machineId, actor);
    actor.start();
    return actor;
  }

  async #until(
    machineId: string,
    wanted: (row: MachineRow) => boolean,
    signal: AbortSignal,
  ): Promise<MachineRow> {
    await this.#untilQuiet(() => wanted(this.#store.get(machineId)), signal);
    return this.#store.get(machineId);
  }

  /** Resolves once `condition` holds, which is asked again whenever something has changed. */
  #untilQuiet(condition: () => boolean, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        this.#watchers.delete(look);
        signal.removeEventListener("abort", aborted);
        settle();
      };
      const aborted = (): void => end(() => reject(HearthError.from(signal.reason)));
      const look = (): void => {
        try {
          if (condition()) end(resolve);
        } catch (error) {
          end(() => reject(error));
        }
      };
      if (signal.aborted) return aborted();
      this.#watchers.add(look);
      signal.addEventListener("abort", aborted, { once: true });
      look();
    });
  }
}

const changing: ReadonlySet<string> = new Set([
  "reserve",
  "commit",
  "update",
  "start",
  "stop",
  "restart",
  "destroy",
]);

function withCrashPoints(facts: WorkerDeps["facts"]): WorkerDeps["facts"] {
  return {
    publish: async (...fact) => {
      crashPoint("publish fact", "before");
      const published = await facts.publish(...fact);
      crashPoint("publish fact", "after");
      return published;
    },
    delete: async (...fact) => {
      crashPoint("delete fact", "before");
      const deleted = await facts.delete(...fact);
      crashPoint("delete fact", "after");
      return deleted;
    },
  };
}

/** Unique to this database for ever: a new one must not repeat the message ids of an old one. */
function ownerId(database: DatabaseSync, randomBytes: (length: number) => Uint8Array): string {
  const made = Buffer.from(randomBytes(8)).toString("hex");
  database.prepare("INSERT INTO meta (key, value) VALUES ('owner_id', ?) ON CONFLICT DO NOTHING").run(made);
  return String(database.prepare("SELECT value FROM meta WHERE key = 'owner_id'").get()?.value);
}
