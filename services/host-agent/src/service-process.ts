/** A service of the node as a child process: what a supervisor can start, watch and stop. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { HearthError } from "@hearth/errors";
import type { LogFile } from "./log-file.ts";

export interface ServiceExit {
  readonly code: number | null;
  readonly signal: string | null;
  /** What it said of why, where it said so. */
  readonly said?: string;
}

/** One life of a service. After `start` has resolved, `exited` resolves when it has ended. */
export interface ServiceProcess {
  readonly pid: number | undefined;
  start(): Promise<void>;
  exited(): Promise<ServiceExit | undefined>;
  stop(): Promise<void>;
}

export interface ChildServiceOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly log: LogFile;
  readonly stopLimitMs: number;
}

export class ChildService implements ServiceProcess {
  readonly #options: ChildServiceOptions;
  #child: ChildProcess | undefined;
  #exit: Promise<ServiceExit> | undefined;
  #startedAtMs = 0;

  constructor(options: ChildServiceOptions) {
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async start(): Promise<void> {
    const { command, args, env, log } = this.#options;
    const output = log.open();
    this.#startedAtMs = Date.now();
    try {
      // A session of its own: a Ctrl-C in the agent's terminal is the agent's to answer.
      const child = spawn(command, [...args], {
        detached: true,
        env: { ...env },
        stdio: ["ignore", output, output],
      });
      this.#child = child;
      this.#exit = new Promise((resolve) => {
        child.once("exit", (code, signal) => resolve({ code, signal }));
        child.once("error", () => resolve({ code: null, signal: null }));
      });
      await new Promise<void>((resolve, reject) => {
        child.once("spawn", resolve);
        child.once("error", (cause) => reject(new HearthError("unavailable", { cause })));
      });
    } finally {
      closeSync(output);
    }
  }

  async exited(): Promise<ServiceExit | undefined> {
    const exit = await this.#exit;
    if (exit === undefined || exit.code === 0) return exit;
    const said = this.#options.log.fatalSince(this.#startedAtMs);
    return said === undefined ? exit : { ...exit, said };
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const killer = setTimeout(() => child.kill("SIGKILL"), this.#options.stopLimitMs);
    child.kill("SIGTERM");
    await this.#exit;
    clearTimeout(killer);
  }
}
