/**
 * Keeps one service running: starts it, waits for its end, and starts it again after a pause that grows with
 * each failure in a row. A life of `healthyAfterMs` clears the row. It never gives up, because a service that
 * cannot start now (a full disk, a taken port) may be able to later; the status says how it stands.
 */
import { HearthError } from "@hearth/errors";
import type { Logger } from "@hearth/telemetry";
import type { ServiceExit, ServiceProcess } from "./service-process.ts";

export type ServiceState = "starting" | "running" | "backoff" | "stopped";

export interface ServiceStatus {
  readonly name: string;
  readonly state: ServiceState;
  readonly pid: number | null;
  /** Times that it was started again after an end that nobody asked for. */
  readonly restarts: number;
  readonly started_at_ms: number | null;
  /** Why it last ended, as one phrase; null while it never did. */
  readonly last_exit: string | null;
}

export interface SupervisorOptions {
  readonly name: string;
  /** A new process for each life. */
  readonly create: () => ServiceProcess;
  readonly logger: Logger;
  readonly backoffMs?: { readonly first: number; readonly limit: number };
  readonly healthyAfterMs?: number;
}

const defaultBackoff = { first: 250, limit: 15_000 };

export class Supervisor {
  readonly name: string;
  readonly #options: SupervisorOptions;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #process: ServiceProcess | undefined;
  #life = new AbortController();
  #state: ServiceState = "stopped";
  #restarts = 0;
  #failuresInRow = 0;
  #startedAtMs: number | undefined;
  #lastExit: string | undefined;

  constructor(options: SupervisorOptions) {
    this.name = options.name;
    this.#options = options;
  }

  status(): ServiceStatus {
    const alive = this.#state === "running" || this.#state === "starting";
    return {
      name: this.name,
      state: this.#state,
      pid: alive ? (this.#process?.pid ?? null) : null,
      restarts: this.#restarts,
      started_at_ms: this.#startedAtMs ?? null,
      last_exit: this.#lastExit ?? null,
    };
  }

  /** Ends with the life that the service has now: who waits for an answer of it waits in vain from then on. */
  get life(): AbortSignal {
    return this.#life.signal;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends the service and does not start it again. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#process?.stop();
    await this.#running;
    this.#state = "stopped";
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const startedAtMs = Date.now();
      this.#life = new AbortController();
      const reason = await this.#live();
      this.#life.abort();
      if (signal.aborted) return;
      this.#lastExit = reason;
      const healthy = Date.now() - startedAtMs >= (this.#options.healthyAfterMs ?? 30_000);
      this.#failuresInRow = healthy ? 1 : this.#failuresInRow + 1;
      const waitMs = this.#backoffMs();
      this.#state = "backoff";
      this.#options.logger.warn({ service_name: this.name, reason, wait_ms: waitMs }, "service ended");
      await pause(waitMs, signal);
      this.#restarts += 1;
    }
  }

  /** One life; resolves with why it ended. */
  async #live(): Promise<string> {
    const life = this.#options.create();
    this.#process = life;
    this.#state = "starting";
    this.#startedAtMs = Date.now();
    try {
      await life.start();
    } catch (error) {
      const { message, cause } = HearthError.from(error);
      this.#options.logger.warn({ service_name: this.name, err: error }, "service did not start");
      return cause instanceof Error ? cause.message : message;
    }
    // Asked to stop while it started: the stop came before there was a process to end.
    if (this.#stopping.signal.aborted) await life.stop();
    else this.#state = "running";
    return describe(await life.exited());
  }

  #backoffMs(): number {
    const { first, limit } = this.#options.backoffMs ?? defaultBackoff;
    return Math.min(limit, first * 2 ** Math.min(this.#failuresInRow - 1, 20));
  }
}

const describe = (exit: ServiceExit | undefined): string => {
  if (exit === undefined) return "it ended";
  const how = exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`;
  return exit.said === undefined ? how : `${how}: ${exit.said}`;
};

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
