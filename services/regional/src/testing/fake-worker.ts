/**
 * A worker for the tests of the API: it keeps to the contract of the bus (commands as parseWorkerCommand reads
 * them, facts with revisions) and runs nothing. A machine is where it was told to be after `bootMs`.
 */
import { type Bus, type FactStore, type Serving, type StreamHandler, serveStreams } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import {
  checkLease,
  factKeys,
  grantLease,
  type InstanceId,
  type Lease,
  leaseData,
  type MachineConfig,
  type MachineEvent,
  type MachineEventType,
  type MachineExplanation,
  type MachineFact,
  type MachineId,
  type MachineRecord,
  type MachineState,
  type NodeFact,
  needLease,
  nextState,
  parseWorkerCommand,
  type WorkerCommand,
  type WorkerRequest,
  workerCommandNames,
} from "@hearth/machine";

export interface FakeWorkerOptions {
  readonly bus: Bus;
  readonly facts: FactStore;
  readonly nodeId: string;
  readonly region?: string;
  readonly freeMemoryMb?: number;
  readonly streams?: Readonly<Record<string, StreamHandler>>;
}

interface Kept {
  readonly app: string;
  revision: number;
  record: MachineRecord;
  lease: Lease | null;
  readonly versions: { version: string; user_config: MachineConfig }[];
}

export class FakeWorker {
  /** Every command that came, in order. */
  readonly commands: WorkerCommand[] = [];
  readonly machines = new Map<string, Kept>();
  /** Thrown instead of the answer to the command of this name. */
  readonly refuse = new Map<string, HearthError>();
  /** Facts wait for this; a test holds it to see who reads too early. */
  beforePublish: Promise<void> = Promise.resolve();
  readonly #options: FakeWorkerOptions;
  readonly #serving: Serving[];
  #events = 0;
  #fence = 0;

  constructor(options: FakeWorkerOptions) {
    this.#options = options;
    const { bus, nodeId } = options;
    const handlers = Object.fromEntries(
      workerCommandNames.map((name) => [
        name,
        (payload: unknown) => this.#take(parseWorkerCommand(name, payload)),
      ]),
    );
    this.#serving = [
      bus.serve(nodeId, "worker", handlers),
      serveStreams(bus, { nodeId, service: "worker" }, options.streams ?? {}),
    ];
  }

  async publishNode(changes: Partial<NodeFact> = {}): Promise<NodeFact> {
    const { nodeId, region = "local", freeMemoryMb = 4096, facts } = this.#options;
    const fact: NodeFact = {
      node_id: nodeId,
      region,
      version: "0.1.0",
      accelerator: "tcg",
      total_cpus: 4,
      total_memory_mb: 8192,
      free_memory_mb: freeMemoryMb,
      machines: this.machines.size,
      warnings: [],
      published_at_ms: Date.now(),
      ...changes,
    };
    await facts.publish(factKeys.node(nodeId), fact);
    return fact;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#serving.map((each) => each.stop()));
  }

  /** What the machine does by itself. */
  async drift(id: string, state: MachineState, type: MachineEventType): Promise<void> {
    await this.#record(this.#kept(id), { state }, type);
  }

  async #take(command: WorkerCommand): Promise<unknown> {
    this.commands.push(command);
    const refusal = this.refuse.get(command.name);
    if (refusal !== undefined) throw refusal;
    switch (command.name) {
      case "reserve":
        this.#fence += 1;
        return {
          ...{ fence: this.#fence, ttl_ms: command.request.ttl_ms, free_cpus: 64 },
          free_memory_mb: this.#options.freeMemoryMb ?? 4096,
        };
      case "commit":
        return this.#commit(command.request);
      case "update":
        return this.#update(command.request);
      case "start":
        return this.#go(command.request.machine_id, "start", ["starting", "started"], "start");
      case "restart":
        return this.#go(command.request.machine_id, "restart", ["starting", "started"], "restart");
      case "stop":
        return this.#go(command.request.machine_id, "stop", ["stopping", "stopped"], "stop");
      case "destroy":
        return this.#destroy(command.request);
      case "set-metadata":
        return this.#setMetadata(command.request);
      case "inspect":
        return { node_id: "n1", machines: this.machines.size, differences: [] };
      case "signal":
        return {};
      case "lease-get":
      case "lease-acquire":
      case "lease-release":
        return this.#lease(command);
      case "cordon":
      case "uncordon": {
        const kept = this.#kept(command.request.machine_id);
        checkLease(kept.record.id, kept.lease, command.request.nonce, Date.now());
        return this.#record(kept, { cordoned: command.name === "cordon" }, undefined);
      }
      case "get":
        return this.#answer(this.#kept(command.request.machine_id));
      case "events":
        return this.#kept(command.request.machine_id).record.events.slice(0, command.request.limit ?? 20);
      case "versions":
        return this.#kept(command.request.machine_id).versions;
      case "explain":
        return explanationOf(this.#kept(command.request.machine_id).record);
      case "ps":
        return [
          {
            pid: 2,
            stime: 5,
            rtime: 9,
            command: "sleep",
            directory: "/",
            cpu: 1,
            rss: 30,
            listen_sockets: [],
          },
          {
            pid: 1,
            stime: 7,
            rtime: 9,
            command: "init",
            directory: "/",
            cpu: 3,
            rss: 10,
            listen_sockets: [],
          },
        ];
      case "list":
        return [...this.machines.values()].map(({ record }) => record);
      case "file-list":
        return [fileEntry("hosts")];
      case "file-stat":
        if (command.request.path === "/missing") throw new HearthError("guest_path_not_found");
        return fileEntry("hosts");
      case "file-mkdir":
      case "file-remove":
      case "file-rename":
        return null;
    }
  }

  async #commit(request: WorkerRequest<"commit">): Promise<unknown> {
    const known = this.machines.get(request.machine_id);
    if (known !== undefined) return this.#answer(known);
    const { record, versions } = newRecord(request);
    const kept: Kept = { app: request.app, revision: 0, record, versions, lease: null };
    this.machines.set(request.machine_id, kept);
    const answer = await this.#record(kept, { state: "created" }, "launch");
    if (!request.launch) return answer;
    return this.#go(request.machine_id, "start", ["starting", "started"], "start");
  }

  #lease(command: Extract<WorkerCommand, { name: `lease-${string}` }>): unknown {
    const kept = this.#kept(command.request.machine_id);
    const nowMs = Date.now();
    if (command.name === "lease-get") return leaseData(needLease(kept.lease, nowMs), { withNonce: false });
    const { machine_id: machineId, nonce } = command.request;
    if (command.name === "lease-release") {
      checkLease(machineId, kept.lease, nonce, nowMs);
      needLease(kept.lease, nowMs);
      kept.lease = null;
      return { ok: true };
    }
    const { ttl_ms: ttlMs, owner, description } = command.request;
    const moment = { machineId, version: kept.record.instance_id, nowMs, newNonce: () => `nonce-${nowMs}` };
    kept.lease = grantLease(kept.lease, { ttlMs, nonce, owner, description }, moment);
    return leaseData(kept.lease, { withNonce: true });
  }

  async #update(request: WorkerRequest<"update">): Promise<unknown> {
    const kept = this.#kept(request.machine_id);
    if (request.current_version !== undefined && request.current_version !== kept.record.instance_id)
      throw new HearthError("conflict");
    const instance_id = request.instance_id as InstanceId;
    const config = request.config as MachineConfig;
    kept.versions.unshift({ version: instance_id, user_config: config });
    const changes = { instance_id, version: instance_id, config, state: "stopped" } as const;
    await this.#record(kept, changes, "update");
    return request.launch
      ? this.#go(request.machine_id, "start", ["starting", "started"], "start")
      : this.#answer(kept);
  }

  async #destroy(request: WorkerRequest<"destroy">): Promise<unknown> {
    const kept = this.#kept(request.machine_id);
    if (kept.record.state === "started" && request.force !== true)
      throw new HearthError("illegal_transition", {
        message: "The machine is started; stop it first, or destroy it with force.",
        details: { state: kept.record.state },
      });
    return this.#record(kept, { state: "destroyed" }, "destroy");
  }

  async #setMetadata(request: WorkerRequest<"set-metadata">): Promise<unknown> {
    const kept = this.#kept(request.machine_id);
    const metadata = { ...kept.record.config.metadata };
    for (const [key, value] of Object.entries(request.metadata))
      if (value === null) delete metadata[key];
      else metadata[key] = value;
    return this.#record(kept, { config: { ...kept.record.config, metadata } }, undefined);
  }

  async #go(
    id: string,
    event: "start" | "stop" | "restart",
    [via, rest]: readonly [MachineState, MachineState],
    type: MachineEventType,
  ): Promise<unknown> {
    const kept = this.#kept(id);
    nextState(kept.record.state, event);
    const answer = await this.#record(kept, { state: via }, type);
    setTimeout(() => void this.#record(kept, { state: rest }, rest === "stopped" ? "exit" : "start"), 30);
    return answer;
  }

  #kept(id: string): Kept {
    const kept = this.machines.get(id);
    if (kept === undefined) throw new HearthError("machine_not_found");
    return kept;
  }

  async #record(
    kept: Kept,
    changes: Partial<MachineRecord>,
    type: MachineEventType | undefined,
  ): Promise<unknown> {
    const state = changes.state ?? kept.record.state;
    const events =
      type === undefined ? kept.record.events : [this.#event(type, state), ...kept.record.events];
    kept.record = { ...kept.record, ...changes, updated_at: new Date().toISOString(), events };
    kept.revision += 1;
    const { nodeId, facts } = this.#options;
    const fact: MachineFact = {
      node_id: nodeId,
      app: kept.app,
      revision: kept.revision,
      record: kept.record,
      egress_ip: "10.0.0.2",
    };
    void this.beforePublish
      .then(() => facts.publish(factKeys.machine(nodeId, kept.record.id), fact))
      .catch(() => undefined); // the bus of a test that is over
    return this.#answer(kept);
  }

  #event(type: MachineEventType, status: MachineState): MachineEvent {
    this.#events += 1;
    return { id: String(this.#events), type, status, source: "flyd", timestamp: Date.now() };
  }

  #answer(kept: Kept): { record: MachineRecord; revision: number } {
    return { record: kept.record, revision: kept.revision };
  }
}

/** Of a start that failed at its first step. */
function explanationOf({ id, state }: MachineRecord): MachineExplanation {
  const begun_at = "2026-01-01T00:00:00.000Z";
  const times = { begun_at, ended_at: "2026-01-01T00:00:00.250Z", duration_ms: 250 };
  const message = "The registry does not answer; try again or check the network.";
  const code = "registry_unavailable";
  const error = { code, step: "image", message, attempts: 3, console_tail: "" };
  const step = { name: "image", state: "failed", attempts: 3, ...times, reason: message } as const;
  const run = {
    run_id: "r1",
    kind: "machine-start",
    state: "failed",
    ...times,
    error,
    steps: [step],
  } as const;
  return { machine_id: id, state, runs: [run] };
}

const fileEntry = (name: string): object => ({
  name,
  kind: "regular",
  size: 3,
  mode: 0o644,
  uid: 0,
  gid: 0,
  modified_ms: 1_700_000_000_000,
  link_target: "",
});

function newRecord(request: WorkerRequest<"commit">): Pick<Kept, "record" | "versions"> {
  const config = request.config as MachineConfig;
  const now = new Date().toISOString();
  const record: MachineRecord = {
    id: request.machine_id as MachineId,
    name: request.name,
    state: "created",
    region: request.region,
    instance_id: request.instance_id as InstanceId,
    version: request.instance_id as InstanceId,
    private_ip: "fd00::1",
    created_at: now,
    updated_at: now,
    image_ref: { registry: "registry.test", repository: config.image, tag: "1", digest: "", labels: {} },
    config,
    incomplete_config: null,
    events: [],
    checks: [],
    host_status: "ok",
    cordoned: false,
  };
  return { record, versions: [{ version: request.instance_id, user_config: config }] };
}
