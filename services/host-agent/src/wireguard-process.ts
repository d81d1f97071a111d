/**
 * WireGuard as a program, for kernels that have none: one `wireguard-go` an interface, which is there while it runs.
 * It outlives the agent, as the machines do whose packets it carries: the next agent finds it by its arguments.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import type { LogFile } from "./log-file.ts";
import { endProcesses, findProcesses, identify, isAlive, type ProcessIdentity } from "./process-identity.ts";
import type { ServiceExit, ServiceProcess } from "./service-process.ts";

export const wireguardProgram = "wireguard-go";
/** Where it listens for `wg`; one that was killed leaves its socket there. */
const socketDirectory = "/var/run/wireguard";
const lookMs = 250;
const stopLimitMs = 3_000;

export interface WireguardProcessOptions {
  readonly link: string;
  readonly path: string;
  readonly log: LogFile;
  /** Told when the process has started and when it has ended. */
  readonly onChange: () => void;
  /** Whether a stop of the agent leaves it running. */
  readonly isLeft: () => boolean;
}

export function wireguardProcesses(isWanted: (link: string) => boolean): ProcessIdentity[] {
  return findProcesses(
    ([program = "", flag, link = ""]) =>
      basename(program) === wireguardProgram && flag === "-f" && isWanted(link),
  );
}

export async function endWireguard(isWanted: (link: string) => boolean): Promise<void> {
  await endProcesses(wireguardProcesses(isWanted), stopLimitMs);
}

export const removeSocket = (link: string): void =>
  rmSync(join(socketDirectory, `${link}.sock`), { force: true });

export class WireguardProcess implements ServiceProcess {
  readonly #options: WireguardProcessOptions;
  readonly #stopping = new AbortController();
  #process: ProcessIdentity | undefined;
  #exit: Promise<ServiceExit | undefined> = Promise.resolve(undefined);

  constructor(options: WireguardProcessOptions) {
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async start(): Promise<void> {
    const { link, onChange } = this.#options;
    const [found] = wireguardProcesses((name) => name === link);
    if (found === undefined) await this.#spawn();
    else {
      this.#process = found;
      this.#exit = this.#gone(found);
    }
    void this.#exit.then(onChange);
    onChange();
  }

  exited(): Promise<ServiceExit | undefined> {
    return this.#exit;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    if (this.#options.isLeft() || this.#process === undefined) return;
    await endProcesses([this.#process], stopLimitMs);
    removeSocket(this.#options.link);
  }

  async #spawn(): Promise<void> {
    const { link, path, log } = this.#options;
    const output = log.open();
    try {
      const child = spawn(wireguardProgram, ["-f", link], {
        detached: true,
        env: { PATH: path, LOG_LEVEL: "error" },
        stdio: ["ignore", output, output],
      });
      const exit = new Promise<ServiceExit>((resolve) => {
        child.once("exit", (code, signal) => resolve({ code, signal }));
        child.once("error", () => resolve({ code: null, signal: null }));
      });
      await once(child, "spawn").catch((cause: Error) => {
        throw new HearthError("unavailable", { message: `${wireguardProgram} cannot be started.`, cause });
      });
      child.unref();
      this.#process = identify(child.pid ?? 0);
      this.#exit = Promise.race([exit, this.#left()]);
    } finally {
      closeSync(output);
    }
  }

  /** Of a process that is another's child, which the kernel tells only to that one. */
  async #gone(process: ProcessIdentity): Promise<ServiceExit | undefined> {
    while (!this.#stopping.signal.aborted || !this.#options.isLeft()) {
      if (!isAlive(process)) return undefined;
      await delay(lookMs, undefined, { ref: false });
    }
    return undefined;
  }

  /** Resolves when the agent goes and leaves the process behind; else never. */
  #left(): Promise<undefined> {
    const { signal } = this.#stopping;
    return new Promise((resolve) => {
      signal.addEventListener("abort", () => this.#options.isLeft() && resolve(undefined), { once: true });
    });
  }
}
