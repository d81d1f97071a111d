/**
 * The namespaces of one host of a fleet: network, mounts, processes and host name, held by one process.
 *
 * That process is the host's process 1. When it ends, the kernel kills every process of the host at once, and
 * with the last one the interfaces, the firewall and the mounts are gone: this is how a host is lost, and how a
 * fleet is taken away. It ends by itself when its standard input does, which the kernel closes when the process
 * that made the fleet dies, however it dies. So nothing has to be found and undone afterwards.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { HearthError } from "@hearth/errors";
import { withSbin } from "./run-command.ts";

export interface NamespaceOptions {
  /** A bash script, which says `ready` and ends when its standard input does. */
  readonly script: string;
  readonly args: readonly string[];
  /** Held, shared, until the last process is gone. */
  readonly lockFile: string;
}

const startLimitMs = 20_000;
const endLimitMs = 30_000;
const kinds = ["--mount", "--uts", "--net", "--pid"] as const;

export class NamespaceSet implements AsyncDisposable {
  /** Of its process 1, as other processes of this machine see it. */
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  private constructor(child: ChildProcess, pid: number, ended: Promise<unknown>) {
    this.#child = child;
    this.pid = pid;
    this.#ended = ended;
  }

  static async start({ script, args, lockFile }: NamespaceOptions): Promise<NamespaceSet> {
    const inside = ["bash", script, ...args];
    const unshare = ["unshare", ...kinds, "--fork", "--kill-child", "--mount-proc", ...inside];
    // A session of its own, so that a ctrl-C is answered by the process that made the fleet and nobody else.
    const child = spawn("flock", ["--shared", "--no-fork", lockFile, ...unshare], {
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, PATH: withSbin(process.env.PATH) },
    });
    child.stdin?.on("error", () => undefined);
    const ended = new Promise((resolve) => {
      child.once("error", resolve);
      child.once("close", resolve);
    });
    try {
      await said(child, "ready");
      const [pid] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").split(" ");
      return new NamespaceSet(child, Number(pid), ended);
    } catch (error) {
      child.kill("SIGKILL");
      await ended;
      throw error;
    }
  }

  /** The command line that runs a program in here. */
  inside(command: readonly string[]): string[] {
    return [...enterCommand(String(this.pid)), ...command];
  }

  /** The command line that runs a program of outside in the network of here. */
  inNetwork(command: readonly string[]): string[] {
    return ["nsenter", "-t", String(this.pid), "-n", "--", ...command];
  }

  /** All of it is gone when this resolves. */
  async kill(): Promise<void> {
    // Process 1 itself, so that its parent holds the lock until the kernel has ended the others.
    if (this.isAlive) process.kill(this.pid, "SIGKILL");
    await this.#gone();
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** As when the process that started it dies. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.destroy();
    await this.#gone();
  }

  async #gone(): Promise<void> {
    const late = setTimeout(() => this.#child.kill("SIGKILL"), endLimitMs);
    await this.#ended;
    clearTimeout(late);
  }
}

export const enterCommand = (pid: string): string[] => ["nsenter", "-t", pid, "-m", "-u", "-n", "-p", "--"];

async function said(child: ChildProcess, word: string): Promise<void> {
  let output = "";
  let errors = "";
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    errors = (errors + chunk).slice(-2_000);
  });
  const limit = AbortSignal.timeout(startLimitMs);
  const spoken = new Promise<void>((resolve) => {
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk;
      if (output.includes(word)) resolve();
    });
  });
  const died = once(child, "close", { signal: limit }).then(([code]) => {
    throw new HearthError("host_requirement_missing", {
      message: `This host could not make namespaces (exit code ${code}): ${errors.trim()}`,
    });
  });
  await Promise.race([spoken, died]);
  died.catch(() => undefined);
}
