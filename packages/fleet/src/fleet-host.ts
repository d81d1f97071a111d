/**
 * One host of a fleet: namespaces, files of its own, and a cable to the switch. What runs on it is what runs on any
 * host, started by `hearth up` and `hearth join`; what can happen to a host can be made to happen to it.
 */
import { readFileSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import type { Port } from "./fault-rules.ts";
import {
  type HostFiles,
  hostEnvironment,
  hostFiles,
  prepareBoot,
  repositoryRoot,
  writeEnterScript,
} from "./host-files.ts";
import { type HostProcess, isService, processesOf, type ServiceName } from "./host-processes.ts";
import { NamespaceSet } from "./namespace-set.ts";
import { type Finished, run } from "./run-command.ts";
import type { Underlay } from "./underlay.ts";

const commandLimitMs = 240_000;
const killLimitMs = 10_000;
const apiPort = 4280;

export interface BootOptions {
  /**
   * What the clock of the host's programs is ahead; below zero, behind. All programs but nats-server see it, as Go asks
   * the kernel without libc. So do the machines on the host.
   */
  readonly clockSkewMs?: number;
}

export class FleetHost implements Port, AsyncDisposable {
  /** Its port of the switch, and the end of its host name: `h1`. */
  readonly port: string;
  readonly name: string;
  readonly mac: string;
  readonly address: string;
  readonly files: HostFiles;
  readonly #underlay: Underlay;
  #space: NamespaceSet | undefined;

  constructor(underlay: Underlay, number: number) {
    this.#underlay = underlay;
    this.port = `h${number}`;
    this.name = `${underlay.claim.name}-${this.port}`;
    this.mac = `02:68:66:00:00:${number.toString(16).padStart(2, "0")}`;
    this.address = underlay.addressOf(number);
    this.files = hostFiles(underlay.claim.directory, this.port);
  }

  /** Of the API of this host, if it has one. */
  get apiUrl(): string {
    return `http://${this.address}:${apiPort}`;
  }

  get isUp(): boolean {
    return this.#space?.isAlive === true;
  }

  /** Powers the host on. Nothing of Hearth runs yet; what it kept from an earlier life is there. */
  async boot({ clockSkewMs = 0 }: BootOptions = {}): Promise<void> {
    if (this.isUp) throw new HearthError("conflict", { message: `${this.name} is up already.` });
    const { files, name } = this;
    await mkdir(files.directory, { recursive: true, mode: 0o711 });
    prepareBoot(files, clockSkewMs);
    const space = await NamespaceSet.start({
      script: join(import.meta.dirname, "host-init.sh"),
      args: [name, files.directory],
      lockFile: this.#underlay.claim.hostsLockFile,
    });
    this.#space = space;
    writeEnterScript(files, name, space.pid);
    await this.#underlay.plug(this, this.address, space);
  }

  /** Cuts the power: all its processes, machines and interfaces are gone at once, and what is on its disk stays. */
  async lose(): Promise<void> {
    await this.#space?.kill();
    this.#space = undefined;
  }

  /** As `lose`, and the disk is gone too. */
  async destroy(): Promise<void> {
    await this.lose();
    rmSync(this.files.directory, { recursive: true, force: true });
  }

  /** Runs a program on the host, to its end. */
  async run(command: readonly string[], input = "", limitMs = commandLimitMs): Promise<Finished> {
    const env = Object.entries(process.env).filter(([key]) => !key.startsWith("HEARTH_"));
    return await run(this.#alive().inside(command), {
      input,
      limitMs,
      env: { ...Object.fromEntries(env), ...hostEnvironment(this.files) },
    });
  }

  /** Runs the real command line on the host. */
  hearth(args: readonly string[], input = ""): Promise<Finished> {
    return this.run([join(repositoryRoot, "cli/bin/hearth"), ...args], input);
  }

  processes(): HostProcess[] {
    return this.#space === undefined ? [] : processesOf(this.#space.pid);
  }

  /** Of a service; empty when it does not run now. */
  pids(service: ServiceName): number[] {
    return this.processes().flatMap(({ pid, args }) => (isService(args, service) ? [pid] : []));
  }

  /** Of the virtual machines that run on it. */
  vmPids(): number[] {
    return this.processes().flatMap(({ pid, args: [program = ""] }) =>
      program.includes("qemu-system") ? [pid] : [],
    );
  }

  /** @throws HearthError `unavailable` when the service does not run, so that no test kills nothing */
  async kill(service: ServiceName, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const pids = this.pids(service);
    if (pids.length === 0)
      throw new HearthError("unavailable", { message: `${service} does not run on ${this.name}.` });
    for (const pid of pids) process.kill(pid, signal);
    if (signal !== "SIGKILL") return;
    const endMs = Date.now() + killLimitMs;
    while (pids.some(isThere)) {
      if (Date.now() > endMs)
        throw new HearthError("deadline_exceeded", { message: `${service} does not die.` });
      await delay(5);
    }
  }

  /** The service does nothing any more and keeps all that it has, connections too. */
  pause(service: ServiceName): Promise<void> {
    return this.kill(service, "SIGSTOP");
  }

  resume(service: ServiceName): Promise<void> {
    return this.kill(service, "SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#space?.[Symbol.asyncDispose]();
    this.#space = undefined;
  }

  #alive(): NamespaceSet {
    if (this.#space?.isAlive === true) return this.#space;
    throw new HearthError("unavailable", { message: `${this.name} is not up.` });
  }
}

function isThere(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch {
    return false;
  }
}
