/**
 * A driver for drills: what stands for the VM is a process of its own, the guest agent on a unix socket. It
 * outlives its worker, is found again by pid and start time, and everything a worker asks of a guest it really
 * does; but there is no VM around it, so a drill of it says that it is a simulation.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import {
  guarded,
  inNetns,
  type Vmm,
  type VmmExit,
  type VmmExitReason,
  type VmmHandle,
  type VmmSpec,
  type VmmStats,
} from "@hearth/vmm";
import { endTree } from "./end-tree.ts";

const pollMs = 10;
const connectLimitMs = 5_000;
/** How the worker finds VMMs on a host; the name is what makes this one of them. */
const programName = "qemu-system-simulated";

export class ProcessVmm implements Vmm {
  readonly kind = "sim" as const;
  #handle: VmmHandle | null = null;
  #exit: VmmExit | null = null;
  #reason: VmmExitReason | null = null;
  #channel: Duplex | null = null;
  #released = false;
  readonly #listeners = new Set<(exit: VmmExit) => void>();
  readonly #agent: string;

  /** @param agent the path of the guest agent's program */
  constructor(agent: string) {
    this.#agent = agent;
  }

  async start(spec: VmmSpec): Promise<VmmHandle> {
    if (this.#handle !== null && this.#exit === null) return this.#handle;
    await mkdir(spec.runDir, { recursive: true });
    const agentSocket = join(spec.runDir, "agent.sock");
    rmSync(agentSocket, { force: true });
    appendFileSync(spec.consolePath, "simulated boot\n");
    // By a name of its own, so that it is one of the VMMs from the moment at which it is executed.
    const named = join(spec.runDir, programName);
    rmSync(named, { force: true });
    symlinkSync(this.#agent, named);
    const [program = "", ...args] = guarded(spec.guard, inNetns(spec.netns, [named, "--unix", agentSocket]));
    const child = spawn(program, args, { detached: true, stdio: "ignore", cwd: "/" });
    await new Promise<void>((resolve, reject) => child.once("spawn", resolve).once("error", reject));
    const pid = child.pid ?? 0;
    child.unref();
    const handle: VmmHandle = {
      ...{ kind: "sim", id: spec.id, pid, startTime: startTimeOf(pid) ?? "" },
      ...{ qmpSocket: "", agentSocket, spec },
    };
    this.#take(handle, child);
    return handle;
  }

  async adopt(handle: VmmHandle): Promise<void> {
    if (startTimeOf(handle.pid) !== handle.startTime) throw new HearthError("vmm_not_running");
    this.#take(handle);
  }

  async channel(): Promise<Duplex> {
    const { agentSocket } = this.#needHandle();
    this.#channel?.destroy();
    const limit = Date.now() + connectLimitMs;
    for (;;) {
      try {
        const socket = connect(agentSocket);
        await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
        this.#channel = socket;
        return socket;
      } catch (cause) {
        if (this.#exit !== null || Date.now() > limit) throw new HearthError("vmm_not_running", { cause });
        await delay(pollMs);
      }
    }
  }

  async pause(): Promise<void> {
    process.kill(this.#needHandle().pid, "SIGSTOP");
  }

  async resume(): Promise<void> {
    process.kill(this.#needHandle().pid, "SIGCONT");
  }

  async snapshot(): Promise<void> {
    throw new HearthError("vmm_unsupported");
  }

  async restore(): Promise<VmmHandle> {
    throw new HearthError("vmm_unsupported");
  }

  async stop(): Promise<void> {
    await this.kill();
  }

  async kill(): Promise<void> {
    const handle = this.#handle;
    if (handle === null || this.#exit !== null) return;
    this.#reason ??= "requested";
    if (startTimeOf(handle.pid) === handle.startTime) endTree(handle.pid);
    while (startTimeOf(handle.pid) === handle.startTime) await delay(pollMs);
    this.#ended();
  }

  async stats(): Promise<VmmStats> {
    this.#needHandle();
    return { cpuTimeMs: 1, residentBytes: 1 };
  }

  onExit(listener: (exit: VmmExit) => void): () => void {
    const exit = this.#exit;
    if (exit !== null) queueMicrotask(() => listener(exit));
    else this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#released = true;
    this.#channel?.destroy();
  }

  #needHandle(): VmmHandle {
    if (this.#handle === null || this.#exit !== null) throw new HearthError("vmm_not_running");
    return this.#handle;
  }

  #take(handle: VmmHandle, child?: ChildProcess): void {
    this.#handle = handle;
    this.#exit = null;
    this.#reason = null;
    child?.once("exit", () => this.#ended());
    if (child === undefined) void this.#watch(handle);
  }

  async #watch(handle: VmmHandle): Promise<void> {
    while (!this.#released && startTimeOf(handle.pid) === handle.startTime)
      await delay(pollMs, undefined, { ref: false });
    if (!this.#released) this.#ended();
  }

  #ended(): void {
    if (this.#exit !== null) return;
    this.#exit = { reason: this.#reason ?? "guest", code: null, signal: null };
    this.#channel?.destroy();
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const listener of listeners) listener(this.#exit);
  }
}

function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
