/** The machines of all apps. Every call names the app and the machine's id. */
import { HearthError } from "@hearth/errors";
import type { ExecStart, LogEntry, MachineEvent, MachineExplanation, MachineState } from "@hearth/machine";
import { appPath } from "./apps.ts";
import { openSession } from "./exec-open.ts";
import type { ExecSession } from "./exec-session.ts";
import { Leases } from "./leases.ts";
import { Metadata } from "./metadata.ts";
import { readMessages } from "./ndjson.ts";
import type { Call, Transport } from "./transport.ts";
import type { AppMachine, CreateMachine, ExecResult, GuestProcess, Machine, UpdateMachine } from "./types.ts";
import { type WaitOptions, waitForMachine } from "./wait.ts";

export interface Target {
  readonly app: string;
  readonly id: string;
  /** Of the lease that the caller holds. */
  readonly nonce?: string;
  readonly signal?: AbortSignal;
}

export interface StopOptions {
  /** Such as SIGTERM; the machine's own stop_config counts when absent. */
  readonly signal?: string;
  /** Seconds before the machine is ended by force. */
  readonly timeoutSeconds?: number;
}

export interface ListMachines {
  readonly includeDestroyed?: boolean;
  readonly states?: readonly MachineState[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface LogOptions {
  readonly follow?: boolean;
  /** The newest entries only. */
  readonly tail?: number;
}

export class Machines {
  readonly leases: Leases;
  readonly metadata: Metadata;
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
    this.leases = new Leases(transport);
    this.metadata = new Metadata(transport);
  }

  /** @throws HearthError `insufficient_capacity`, `name_taken`, `app_not_found`, and those of the configuration */
  create(app: string, machine: CreateMachine, signal?: AbortSignal): Promise<Machine> {
    const path = `${appPath(app)}/machines`;
    return this.#transport.json({ method: "POST", path, json: machine, signal });
  }

  list(app: string, options: ListMachines = {}): Promise<Machine[]> {
    const query: Record<string, string | boolean | undefined> = {
      include_deleted: options.includeDestroyed === true ? true : undefined,
      state: options.states?.join(","),
    };
    for (const [key, value] of Object.entries(options.metadata ?? {})) query[`metadata.${key}`] = value;
    const path = `${appPath(app)}/machines`;
    return this.#transport.json({ method: "GET", path, query, signal: options.signal });
  }

  /** The machines of all apps of an organisation, page by page. */
  async *listAll(org: string, options: Pick<ListMachines, "includeDestroyed" | "signal"> = {}) {
    const include_deleted = options.includeDestroyed === true ? true : undefined;
    const path = `/v1/orgs/${encodeURIComponent(org)}/machines`;
    let cursor: string | undefined;
    do {
      const query = { include_deleted, cursor };
      const page: { readonly machines: AppMachine[]; readonly next_cursor?: string } =
        await this.#transport.json({ method: "GET", path, query, signal: options.signal });
      yield* page.machines;
      cursor = page.next_cursor || undefined;
    } while (cursor !== undefined);
  }

  /** @throws HearthError `machine_not_found` */
  get(target: Target): Promise<Machine> {
    return this.#call(target, "GET", "");
  }

  /** Replaces the whole configuration. */
  update(target: Target, machine: UpdateMachine): Promise<Machine> {
    return this.#call(target, "POST", "", { json: machine });
  }

  /** @throws HearthError `illegal_transition` from a state that cannot start */
  start(target: Target): Promise<{ readonly previous_state: MachineState }> {
    return this.#call(target, "POST", "/start");
  }

  async stop(target: Target, { signal, timeoutSeconds }: StopOptions = {}): Promise<void> {
    const timeout = timeoutSeconds === undefined ? {} : { timeout: `${timeoutSeconds}s` };
    const json = { ...(signal === undefined ? {} : { signal }), ...timeout };
    await this.#call(target, "POST", "/stop", { json });
  }

  async restart(target: Target, options: StopOptions & { readonly force?: boolean } = {}): Promise<void> {
    const { signal, timeoutSeconds, force } = options;
    const timeout = timeoutSeconds === undefined ? undefined : `${timeoutSeconds}s`;
    const query = { signal, timeout, force_stop: force === true ? true : undefined };
    await this.#call(target, "POST", "/restart", { query });
  }

  /** @param signal a name such as SIGHUP, or a number */
  async signal(target: Target, signal: string | number): Promise<void> {
    await this.#call(target, "POST", "/signal", { json: { signal } });
  }

  /** Without `force` only a machine that does not run is destroyed. */
  async destroy(target: Target, options: { readonly force?: boolean } = {}): Promise<void> {
    const query = { force: options.force === true ? true : undefined };
    await this.#call(target, "DELETE", "", { query });
  }

  /** It runs on and is to get no new traffic. No part of this version routes traffic, so none honours it yet. */
  async cordon(target: Target): Promise<void> {
    await this.#call(target, "POST", "/cordon");
  }

  async uncordon(target: Target): Promise<void> {
    await this.#call(target, "POST", "/uncordon");
  }

  /** What was done for the machine, step by step, and why it failed. */
  explain(target: Target, limit?: number): Promise<MachineExplanation> {
    return this.#call(target, "GET", "/explain", { query: { limit } });
  }

  /** Waits until the machine is in one of the states. @throws HearthError `deadline_exceeded` after the limit */
  wait(target: Target, options: WaitOptions): Promise<void> {
    return waitForMachine(this.#transport, machinePath(target), {
      ...options,
      signal: options.signal ?? target.signal,
    });
  }

  /** Newest first. */
  events(target: Target, limit = 20): Promise<MachineEvent[]> {
    return this.#call(target, "GET", "/events", { query: { limit } });
  }

  ps(target: Target): Promise<GuestProcess[]> {
    return this.#call(target, "GET", "/ps");
  }

  /** Runs a short program and holds its whole output; `exec` streams it. */
  async run(
    target: Target,
    command: readonly string[],
    options: { readonly stdin?: string; readonly timeoutSeconds?: number } = {},
  ): Promise<ExecResult> {
    const timeout = options.timeoutSeconds === undefined ? {} : { timeout: options.timeoutSeconds };
    const stdin = options.stdin === undefined ? {} : { stdin: options.stdin };
    const answerLimitMs = ((options.timeoutSeconds ?? 300) + 30) * 1000;
    return this.#call(target, "POST", "/exec", { json: { command, ...stdin, ...timeout }, answerLimitMs });
  }

  /** What the machine's program wrote, oldest first; with `follow` it goes on until the machine stops. */
  async *logs(target: Target, options: LogOptions = {}): AsyncGenerator<LogEntry> {
    const query = { follow: options.follow === true ? true : undefined, tail: options.tail };
    const path = `${machinePath(target)}/logs`;
    const answer = await this.#transport.open({ method: "GET", path, query, signal: target.signal });
    try {
      yield* readMessages<LogEntry>(answer, target.signal);
    } finally {
      answer.destroy();
    }
  }

  /** Starts a program and gives its streams. */
  exec(target: Target, start: Omit<ExecStart, "machine_id">): Promise<ExecSession> {
    const path = `${machinePath(target)}/exec/stream`;
    return openSession({ transport: this.#transport, path, start, signal: target.signal });
  }

  /** The streams of the machine's own program. Leaving does not end it. */
  attach(target: Target, start: { readonly stdin?: boolean } = {}): Promise<ExecSession> {
    const path = `${machinePath(target)}/attach/stream`;
    return openSession({ transport: this.#transport, path, start, signal: target.signal });
  }

  #call<T>(target: Target, method: Call["method"], below: string, more: Partial<Call> = {}): Promise<T> {
    const path = `${machinePath(target)}${below}`;
    return this.#transport.json<T>({
      method,
      path,
      headers: leaseHeaders(target),
      signal: target.signal,
      ...more,
    });
  }
}

export const leaseHeaders = ({ nonce }: Target): Record<string, string> =>
  nonce === undefined ? {} : { "fly-machine-lease-nonce": nonce };

/** @throws HearthError `invalid_argument` for an empty id, which would be the path of all machines */
export function machinePath({ app, id }: Target): string {
  if (id === "") throw new HearthError("invalid_argument", { message: "A machine id is missing; name one." });
  return `${appPath(app)}/machines/${encodeURIComponent(id)}`;
}
