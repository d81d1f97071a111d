/**
 * The worker of one node: it owns the facts of its machines and everything of theirs on this host.
 *
 * Requests change records; an actor a machine brings the host to what its record says. On stopping, the worker
 * lets go and the machines run on; on starting, it finds them again.
 */
import { connect } from "node:net";
import type { DatabaseSync } from "node:sqlite";
import { defaultLease, type Handler, Outbox, type Serving, serveStreams } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  type MachineAnswer,
  newInstanceId,
  parseWorkerCommand,
  type WorkerCommand,
  workerCommandNames,
} from "@hearth/machine";
import { parseClusterPrefix } from "@hearth/network";
import { hostBootMs } from "@hearth/process";
import { CheckSet } from "./checks/check-set.ts";
import { drainMachines, parseStopAll } from "./drain.ts";
import { consoleTail } from "./guest/console-tail.ts";
import { GuestCommands } from "./guest/guest-commands.ts";
import { workerStreamHandlers } from "./guest/worker-streams.ts";
import { HostPaths } from "./host/host-paths.ts";
import { inspectNode } from "./host/inspector.ts";
import { loadOf, NodeFacts, noLoad } from "./host/node-facts.ts";
import { NodeLease } from "./host/node-lease.ts";
import { OrphanSweep } from "./host/orphan-sweep.ts";
import { HeardServices } from "./host/service-health.ts";
import { restoreGuards } from "./host/vm-guards.ts";
import { DatabaseHealth } from "./journal/database-health.ts";
import { Ledger } from "./journal/ledger.ts";
import { ownerId, withCrashPoints } from "./journal/published-facts.ts";
import { Restatement } from "./journal/restatement.ts";
import { RunEngine } from "./journal/run-engine.ts";
import { runHistory } from "./journal/run-history.ts";
import { Admission } from "./machines/admission.ts";
import { ChangeWatch } from "./machines/change-watch.ts";
import { noting, starting } from "./machines/command-kinds.ts";
import { LiveSet, runningMachine } from "./machines/live-set.ts";
import { MachineActor } from "./machines/machine-actor.ts";
import { MachineCommands } from "./machines/machine-commands.ts";
import { placementOf } from "./machines/machine-placements.ts";
import { factOf, privateAddress, recordOf } from "./machines/machine-record.ts";
import { isElsewhere, leasedMachines, needsLease, type RightsDeps } from "./machines/machine-rights.ts";
import type { MachineRow } from "./machines/machine-row.ts";
import { MachineStore } from "./machines/machine-store.ts";
import type { RunParts } from "./runs/run-parts.ts";
import { ScratchDisks } from "./runs/scratch-disk.ts";
import { AppEgressFacts } from "./slots/app-egress.ts";
import { SlotNumbers } from "./slots/slot-numbers.ts";
import { SlotPool } from "./slots/slot-pool.ts";
import { bootKey, takeOver } from "./take-over.ts";
import { defaultLimits, type WorkerDeps } from "./worker-deps.ts";
import { dispatch } from "./worker-dispatch.ts";

export const workerServiceName = "worker";
const publishedEvents = 20;

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
  readonly #appEgress: AppEgressFacts;
  readonly #commands: MachineCommands;
  readonly #guests: GuestCommands;
  readonly #nodeFacts: NodeFacts;
  readonly #orphans: OrphanSweep;
  readonly #slots: SlotPool;
  readonly #lease: NodeLease;
  readonly #actors = new Map<string, MachineActor>();
  readonly #services = new HeardServices(() => this.#nodeFacts.soon());
  readonly #watch = new ChangeWatch();
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
      onRecovered: () => this.#wakeAll(),
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
      nodeId: config.node_id,
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
    this.#admission = new Admission(
      database,
      { ...config.capacity, cpu_overcommit: config.cpu_overcommit },
      nowMs,
    );
    this.#appEgress = new AppEgressFacts({
      ...{ bus: deps.bus, logger, store: this.#store },
      wake: (machineId) => this.#actors.get(machineId)?.wake(),
      onThrown: (error) => void this.#health.note(error),
    });
    this.#commands = new MachineCommands({
      database,
      appEgress: (app, told) => this.#appEgress.newest(app, told),
      store: this.#store,
      admission: this.#admission,
      slots: new SlotNumbers(this.#store, config.node_id),
      answer: (row) => this.#answer(row),
      nowMs,
      newNonce: () => Buffer.from(randomBytes(8)).toString("hex"),
    });
    this.#guests = new GuestCommands((machineId) => runningMachine(this.#store, this.#live, machineId));
    this.#nodeFacts = new NodeFacts({
      config,
      facts: deps.facts,
      clock,
      logger,
      everyMs: limits.nodeFactEveryMs,
      load: () =>
        this.#health.guard(
          () => loadOf(this.#store.all(), this.#admission, { draining: this.#draining }),
          noLoad,
        ),
      problems: () => [...this.#health.problems, ...present(this.#lease.problem)],
      services: () => this.#services.now,
      restatement: new Restatement({
        facts: deps.facts,
        outbox: this.#outbox,
        republish: () => {
          this.#health.check();
          this.#store.republish();
        },
        logger,
      }),
    });
    const ledger = new Ledger(database, nowMs);
    this.#slots = new SlotPool({
      ...{ nodeId: config.node_id, ledger, network: deps.network, clock, randomBytes, logger },
      ownerUid: process.getuid?.() ?? 0,
      size: limits.slotPool,
    });
    this.#parts = {
      config,
      identity,
      store: this.#store,
      outbox: this.#outbox,
      ledger,
      live: this.#live,
      disks: new ScratchDisks(paths.templates),
      network: deps.network,
      slots: this.#slots,
      images: deps.images,
      paths,
      clock,
      limits,
      logger,
    };
    const rights: RightsDeps = {
      parts: this.#parts,
      engine: this.#engine,
      wake: (machineId) => this.#actors.get(machineId)?.wake(),
      noteTerm: (machineId, term) => this.#commands.moves.noted(machineId, term),
    };
    this.#lease = new NodeLease({
      ...{ nodeId: config.node_id, facts: deps.facts, clock, logger },
      limits: config.lease ?? defaultLease,
      path: paths.lease,
      bootMs: deps.bootMs ?? hostBootMs,
      ...leasedMachines(rights),
      onHeld: () => this.#wakeAll(),
    });
    this.#orphans = new OrphanSweep({
      ...{ nodeId: config.node_id, paths, network: deps.network },
      inspect: async () => {
        await restoreGuards(this.#parts);
        return await inspectNode(this.#parts, database);
      },
      clock,
      logger,
      everyMs: limits.orphanSweepMs,
      graceMs: limits.orphanGraceMs,
    });
  }

  async start(): Promise<void> {
    const { bus, config, bootId } = this.#deps;
    this.#outbox.start();
    const sameBoot = this.#store.meta(bootKey) === bootId;
    await takeOver({ parts: this.#parts, engine: this.#engine, bootId });
    this.#lease.start(sameBoot);
    for (const { machineId } of this.#store.all()) {
      this.#actor(machineId);
      this.#checks.follow(machineId);
    }
    const streams = workerStreamHandlers({
      store: this.#store,
      live: (machineId) => runningMachine(this.#store, this.#live, machineId),
      log: (machineId) => this.#live.log(machineId),
      until: async (machineId, wanted, signal) => {
        await this.#watch.until(() => wanted(this.#store.get(machineId)), signal);
        return this.#store.get(machineId);
      },
    });
    this.#serving = [
      bus.serve(config.node_id, workerServiceName, this.#handlers()),
      serveStreams(bus, { nodeId: config.node_id, service: workerServiceName }, streams),
    ];
    await bus.flush();
    this.#nodeFacts.start();
    this.#orphans.start();
    this.#slots.start();
    this.#appEgress.start();
  }

  /** Lets go of the machines, which run on, and closes the database. */
  async stop(): Promise<void> {
    await Promise.all(this.#serving.map((serving) => serving.stop()));
    await Promise.all([
      this.#lease.stop(),
      this.#nodeFacts.stop(),
      this.#orphans.stop(),
      this.#health.stop(),
      this.#slots.stop(),
      this.#appEgress.stop(),
    ]);
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
      "service-health": (payload) => this.#services.take(payload),
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
    if (this.#draining && starting.has(command.name))
      throw new HearthError("unavailable", {
        message: "This node is being taken down; its machines start again with it.",
      });
    if (starting.has(command.name) || noting.has(command.name)) this.#health.check();
    return dispatch(
      {
        commands: this.#commands,
        guests: this.#guests,
        store: this.#store,
        answer: (row) => this.#answer(row),
        explain: (machineId, limit) =>
          runHistory(this.#database, machineId, { limit, nowMs: this.#deps.clock.nowMs() }),
        placementOf: (machineId) => placementOf(this.#database, machineId),
        inspect: () => inspectNode(this.#parts, this.#database),
      },
      command,
      signal,
    );
  }

  async #stopAll(payload: unknown, signal: AbortSignal): Promise<unknown> {
    const request = parseStopAll(payload);
    this.#draining = true;
    try {
      return await drainMachines(
        {
          parts: this.#parts,
          engine: this.#engine,
          slots: this.#slots,
          until: (quiet, limit) => this.#watch.until(quiet, limit),
        },
        request,
        signal,
      );
    } catch (error) {
      this.#draining = false;
      this.#wakeAll();
      throw error;
    }
  }

  #answer(row: MachineRow): MachineAnswer {
    const events = this.#store.events(row.machineId, publishedEvents);
    return { record: recordOf(this.#parts.identity, row, events), revision: row.revision };
  }

  #changed(machineId: string): void {
    this.#actor(machineId).wake();
    this.#checks.follow(machineId);
    this.#live.log(machineId).wake();
    this.#watch.notify();
  }

  #wakeAll(): void {
    for (const actor of this.#actors.values()) actor.wake();
  }

  #actor(machineId: string): MachineActor {
    const known = this.#actors.get(machineId);
    if (known !== undefined) return known;
    const actor = new MachineActor(machineId, {
      parts: this.#parts,
      engine: this.#engine,
      newRunId: () => Buffer.from(this.#deps.randomBytes(8)).toString("hex"),
      draining: () => this.#draining,
      mayRun: (row) => !isElsewhere(row) && (!needsLease(row) || this.#lease.held),
      admit: (row) => this.#admission.admit(this.#store.all(), row.machineId, row.config.guest),
      logger: this.#deps.logger.child({ machine_id: machineId }),
      onActed: () => this.#watch.notify(),
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
}

const present = <T>(value: T | undefined): T[] => (value === undefined ? [] : [value]);
