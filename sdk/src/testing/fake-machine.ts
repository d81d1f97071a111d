/** A machine of the fake API: its program is a child process of the test, its disk a directory. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import { constants } from "node:os";
import type {
  ExecStatus,
  InstanceId,
  Lease,
  LogEntry,
  MachineConfigInput,
  MachineEvent,
  MachineEventType,
  MachineId,
  MachineRecord,
  MachineState,
} from "@hearth/machine";

export interface FakeMachineOptions {
  readonly name: string;
  readonly config: MachineConfigInput;
  readonly directory: string;
}

export class FakeMachine extends EventEmitter {
  readonly id: MachineId = randomBytes(7).toString("hex") as MachineId;
  readonly directory: string;
  readonly logs: LogEntry[] = [];
  readonly metadata: Record<string, string>;
  lease: Lease | null = null;
  cordoned = false;
  readonly #name: string;
  #config: MachineConfigInput;
  /** While the version of now has not run: what it goes back to. */
  #before: { readonly config: MachineConfigInput; readonly instanceId: InstanceId } | undefined;
  /** The version that could not start, and was taken back. */
  failedVersion: string | undefined;
  readonly #createdAt = new Date().toISOString();
  #instanceId = "01J0000000000000000000ABCD" as InstanceId;
  readonly #events: MachineEvent[] = [];
  #state: MachineState = "created";
  #child: ChildProcess | undefined;
  #requestedStop = false;
  #isRestarting = false;
  /** Where the output of the present program begins in the logs. */
  #bootFrom = 0;
  #end: ExecStatus | undefined;

  constructor({ name, config, directory }: FakeMachineOptions) {
    super();
    this.setMaxListeners(0);
    this.directory = directory;
    this.#name = name;
    this.#config = config;
    this.metadata = { ...config.metadata };
    this.#record("launch", "created", "user");
  }

  get state(): MachineState {
    return this.#state;
  }

  record(): MachineRecord {
    const guest = { cpu_kind: "shared" as const, cpus: 1, memory_mb: 256, ...this.#config.guest };
    return {
      id: this.id,
      name: this.#name,
      state: this.#state,
      region: "local",
      instance_id: this.#instanceId,
      version: this.#instanceId,
      private_ip: "fd00:1234:5678::1",
      created_at: this.#createdAt,
      updated_at: this.#createdAt,
      image_ref: { registry: "", repository: this.#config.image, tag: "latest", digest: "", labels: {} },
      config: { ...this.#config, guest, metadata: this.metadata },
      incomplete_config: null,
      events: [...this.#events].reverse(),
      checks: this.#checks(),
      host_status: "ok",
      cordoned: this.cordoned,
    };
  }

  start(): void {
    const { entrypoint = [], cmd = ["sleep", "1000"], exec } = this.#config.init ?? {};
    const [program = "", ...words] = exec ?? [...entrypoint, ...cmd];
    this.#requestedStop = false;
    this.#isRestarting = false;
    this.#bootFrom = this.logs.length;
    this.#end = undefined;
    this.#set("starting");
    const child = spawn(program, words, {
      cwd: this.directory,
      env: { PATH: process.env.PATH, ...this.#config.env },
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    this.#child = child;
    child.stdin.on("error", () => undefined);
    child.stdout.on("data", (data: Buffer) => this.#log("stdout", data));
    child.stderr.on("data", (data: Buffer) => this.#log("stderr", data));
    child.once("spawn", () => {
      this.#before = undefined;
      this.#record("start", "started", "flyd");
      this.#set("started");
    });
    child.once("error", () => {
      const message = `The image has no program "${program}" that can be run; check it.`;
      this.#end = { kind: "failed", code: "entrypoint_not_found", message };
      const console_tail = "hearth: starting the program";
      const error = {
        code: "entrypoint_not_found",
        message,
        step: "process-start",
        attempts: 1,
        console_tail,
      };
      this.#record("failed", "failed", "flyd", { error });
      if (this.#before !== undefined) return this.#rollBack(this.#before);
      if (this.#state !== "destroyed") this.#set("failed");
    });
    child.once("close", (code, name) => {
      if (this.#state === "failed" || this.#child !== child) return;
      const signal = name === null ? 0 : constants.signals[name];
      this.#end = { kind: "exited", exit_code: code ?? 0, exit_signal: signal };
      if (this.#isRestarting) {
        this.start();
        return;
      }
      const exit_code = signal > 0 ? 128 + signal : (code ?? 0);
      this.#exited("exit", { exit_code, signal: signal > 0 ? signal : -1 }, "stopped");
      if (this.#config.auto_destroy === true) this.destroy();
    });
  }

  get stdin(): NodeJS.WritableStream | null | undefined {
    return this.#child?.stdin;
  }

  /** The output of the present or last program, from its beginning. */
  get output(): readonly LogEntry[] {
    return this.logs.slice(this.#bootFrom);
  }

  /** How that program ended; undefined while it has not. */
  get end(): ExecStatus | undefined {
    return this.#end;
  }

  restart(): void {
    this.#isRestarting = true;
    this.#set("starting");
    this.kill("SIGKILL");
  }

  /** Its checks pass unless the environment of its program has UNHEALTHY. */
  update(config: MachineConfigInput, launch: boolean): void {
    if (launch) this.#before = { config: this.#config, instanceId: this.#instanceId };
    this.#config = config;
    const count = Number.parseInt(this.#instanceId.slice(8, 14), 10) + 1;
    this.#instanceId = `01J00000${String(count).padStart(6, "0")}00000000ABCD` as InstanceId;
    this.#record("update", "replacing", "user");
    if (!launch) return;
    this.#set("replacing");
    if (this.#child?.exitCode === null && this.#child.signalCode === null) {
      this.#isRestarting = true;
      this.kill("SIGKILL");
    } else this.start();
  }

  #rollBack({
    config,
    instanceId,
  }: {
    readonly config: MachineConfigInput;
    readonly instanceId: InstanceId;
  }) {
    this.failedVersion = this.#instanceId;
    this.#before = undefined;
    this.#config = config;
    this.#instanceId = instanceId;
    this.start();
  }

  #checks(): MachineRecord["checks"] {
    const status = this.#config.env?.UNHEALTHY === undefined ? "passing" : "critical";
    return Object.keys(this.#config.checks ?? {}).map((name) => {
      return { name, status, output: `It is ${status}.`, updated_at: this.#createdAt };
    });
  }

  stop(signal: NodeJS.Signals): void {
    this.#requestedStop = true;
    if (this.#state === "started") this.#set("stopping");
    this.kill(signal);
  }

  kill(signal: NodeJS.Signals | number): void {
    const pid = this.#child?.pid;
    if (pid === undefined || this.#child?.exitCode !== null || this.#child.signalCode !== null) return;
    process.kill(-pid, signal);
  }

  destroy(): void {
    this.kill("SIGKILL");
    this.#record("destroy", "destroyed", "user");
    this.#set("destroyed");
  }

  #exited(type: MachineEventType, exit: object, state: MachineState): void {
    const exit_event = {
      exit_code: 0,
      guest_exit_code: 0,
      guest_signal: -1,
      oom_killed: false,
      requested_stop: this.#requestedStop,
      restarting: false,
      signal: -1,
      exited_at: new Date().toISOString(),
      ...exit,
    };
    this.#record(type, state, "flyd", { exit_event });
    if (this.#state !== "destroyed") this.#set(state);
  }

  #log(stream: "stdout" | "stderr", data: Buffer): void {
    const seq = this.logs.length;
    this.logs.push({ seq, timestamp: new Date().toISOString(), stream, data: data.toString("base64") });
    this.emit("change");
  }

  #record(
    type: MachineEventType,
    status: MachineState,
    source: "user" | "flyd",
    request?: NonNullable<MachineEvent["request"]>,
  ): void {
    const event = { id: randomBytes(8).toString("hex"), type, status, source, timestamp: Date.now() };
    this.#events.push(request === undefined ? event : { ...event, request });
  }

  #set(state: MachineState): void {
    this.#state = state;
    this.emit("change");
  }
}
