/**
 * The QEMU driver: `-M microvm`, under KVM where that works and emulated elsewhere.
 *
 * The process is the VM. It is nobody's child for long: the worker that started it may die, and the next one
 * adopts it by pid, start time and QMP socket. So nothing that matters is only in this object; what it holds
 * beside the handle is a connection that can be opened again. QEMU runs under its seccomp filter and may
 * neither spawn nor gain privileges.
 */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { HearthError } from "@hearth/errors";
import {
  type Vmm,
  type VmmExit,
  VmmExitReason,
  type VmmHandle,
  VmmKind,
  type VmmRestoreOverrides,
  type VmmSpec,
  type VmmStats,
} from "../port.ts";
import { type Accelerator, type QemuMemory, qemuArguments } from "./arguments.ts";
import { saysPanic } from "./console.ts";
import { launchQemu } from "./launch.ts";
import { isSameProcess, killProcess, processStats } from "./process.ts";
import { defaultCommandLimitMs, QmpClient, type QmpEvent } from "./qmp.ts";
import { loadSnapshot, memoryPath, readSnapshot, SnapshotMemory, writeSnapshot } from "./snapshot.ts";
import { hostTscKhz } from "./tsc.ts";

const killLimitMs = 10_000;
const adoptedPollMs = 20;

export interface QemuVmmDeps {
  readonly binary?: string;
  /** What `probeKvm` found; without it the VM is emulated. */
  readonly accelerator?: Accelerator;
  /** How long QEMU may take to answer one command, and to greet. */
  readonly commandLimitMs?: number;
}

export class QemuVmm implements Vmm {
  readonly kind = VmmKind.qemu;
  readonly #binary: string;
  readonly #accelerator: Accelerator;
  readonly #commandLimitMs: number;
  #handle: VmmHandle | null = null;
  #qmp: QmpClient | null = null;
  #channel: Socket | null = null;
  #exit: VmmExit | null = null;
  #reason: VmmExitReason | null = null;
  readonly #listeners = new Set<(exit: VmmExit) => void>();

  constructor(deps: QemuVmmDeps = {}) {
    this.#binary = deps.binary ?? "qemu-system-x86_64";
    this.#accelerator = deps.accelerator ?? "tcg";
    this.#commandLimitMs = deps.commandLimitMs ?? defaultCommandLimitMs;
  }

  async start(spec: VmmSpec): Promise<VmmHandle> {
    return this.#running() ?? (await this.#launch(spec, { kind: "memfd" }, false));
  }

  async adopt(handle: VmmHandle): Promise<void> {
    if (this.#running() !== null) return;
    if (handle.kind !== VmmKind.qemu || !isSameProcess(handle.pid, handle.startTime))
      throw new HearthError("vmm_not_running");
    this.#qmp = await QmpClient.open(handle.qmpSocket, (event) => this.#onEvent(event), this.#commandLimitMs);
    this.#handle = handle;
    this.#exit = null;
    this.#reason = null;
    void this.#watchAdopted(handle, this.#qmp);
  }

  async channel(): Promise<Duplex> {
    const handle = this.#needRunning();
    // QEMU serves one connection on the port; a second one would wait unseen in the backlog.
    this.#channel?.destroy();
    const socket = connect(handle.agentSocket);
    this.#channel = socket;
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (cause) => reject(new HearthError("vmm_not_running", { cause })));
    });
    return socket;
  }

  async pause(): Promise<void> {
    await this.#execute("stop");
  }

  async resume(): Promise<void> {
    await this.#execute("cont");
  }

  async snapshot(dir: string): Promise<void> {
    const handle = this.#needRunning();
    await this.pause();
    const qmp = this.#qmp;
    if (qmp === null) throw new HearthError("vmm_not_running");
    try {
      await writeSnapshot({ qmp, handle, dir, accelerator: this.#accelerator });
    } catch (cause) {
      throw HearthError.from(cause);
    }
  }

  async restore(dir: string, overrides: VmmRestoreOverrides): Promise<VmmHandle> {
    const running = this.#running();
    if (running !== null) return running;
    const snapshot = await readSnapshot(dir);
    const spec: VmmSpec = { ...snapshot.spec, ...overrides };
    if (
      snapshot.accelerator !== this.#accelerator ||
      spec.disks.length !== snapshot.spec.disks.length ||
      spec.nics.length !== snapshot.spec.nics.length
    ) {
      throw new HearthError("vmm_snapshot_invalid", {
        message:
          "The snapshot has other devices or was made under another accelerator; restore it on a host like its own.",
      });
    }
    const memory: QemuMemory =
      snapshot.memory === SnapshotMemory.file ? { kind: "clone", path: memoryPath(dir) } : { kind: "memfd" };
    const handle = await this.#launch(spec, memory, true);
    try {
      if (this.#qmp === null) throw new HearthError("vmm_not_running");
      await loadSnapshot({ qmp: this.#qmp, snapshot, runDir: spec.runDir, dir });
      await this.resume();
    } catch (cause) {
      await this.kill();
      throw new HearthError("vmm_start_failed", { cause });
    }
    return handle;
  }

  async stop(graceMs: number): Promise<void> {
    if (this.#running() === null) return;
    this.#reason ??= VmmExitReason.requested;
    // A paused guest cannot react; and one that is on its way out has closed the socket already.
    await this.#execute("cont").catch(() => undefined);
    await this.#execute("system_powerdown").catch(() => undefined);
    if (!(await this.#gone(graceMs))) await this.kill();
  }

  async kill(): Promise<void> {
    const handle = this.#running();
    if (handle === null) return;
    this.#reason ??= VmmExitReason.requested;
    killProcess(handle.pid, handle.startTime);
    if (!(await this.#gone(killLimitMs))) {
      throw new HearthError("deadline_exceeded", {
        message: "The virtual machine did not end after SIGKILL.",
      });
    }
  }

  async stats(): Promise<VmmStats> {
    const stats = processStats(this.#needRunning().pid);
    if (stats === null) throw new HearthError("vmm_not_running");
    return stats;
  }

  onExit(listener: (exit: VmmExit) => void): () => void {
    const exit = this.#exit;
    if (exit !== null) queueMicrotask(() => listener(exit));
    else this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #running(): VmmHandle | null {
    return this.#exit === null ? this.#handle : null;
  }

  #needRunning(): VmmHandle {
    const handle = this.#running();
    if (handle === null) throw new HearthError("vmm_not_running");
    return handle;
  }

  async #execute(command: string): Promise<void> {
    this.#needRunning();
    await this.#qmp?.execute(command);
  }

  async #launch(spec: VmmSpec, memory: QemuMemory, incoming: boolean): Promise<VmmHandle> {
    const qmpSocket = join(spec.runDir, "qmp.sock");
    const agentSocket = join(spec.runDir, "agent.sock");
    this.#exit = null;
    this.#reason = null;
    const accelerator = this.#accelerator;
    const tscKhz = accelerator === "tcg" ? hostTscKhz() : null;
    const launched = await launchQemu({
      binary: this.#binary,
      guard: spec.guard,
      netns: spec.netns,
      args: qemuArguments({ spec, accelerator, memory, qmpSocket, agentSocket, tscKhz, incoming }),
      runDir: spec.runDir,
      sockets: [qmpSocket, agentSocket],
      qmpSocket,
      commandLimitMs: this.#commandLimitMs,
      onEvent: (event) => this.#onEvent(event),
    });
    const { child, pid, startTime, qmp } = launched;
    const handle: VmmHandle = {
      kind: VmmKind.qemu,
      id: spec.id,
      pid,
      startTime,
      qmpSocket,
      agentSocket,
      spec,
    };
    this.#handle = handle;
    this.#qmp = qmp;
    child.once("exit", (code, signal) => this.#ended(code, signal));
    // It may have ended between the greeting and the line above.
    if (child.exitCode !== null || child.signalCode !== null) this.#ended(child.exitCode, child.signalCode);
    return handle;
  }

  #onEvent(event: QmpEvent): void {
    if (event.event !== "SHUTDOWN" || event.data.guest !== true) return;
    const consolePath = this.#handle?.spec.consolePath;
    // microvm has no panic device, and a panic is a reset to it; the kernel's last words tell them apart.
    const panicked =
      event.data.reason === "guest-reset" && consolePath !== undefined && saysPanic(consolePath);
    this.#reason ??= panicked ? VmmExitReason.panic : VmmExitReason.guest;
  }

  #ended(code: number | null, signal: string | null): void {
    if (this.#exit !== null) return;
    const exit: VmmExit = { reason: this.#reason ?? VmmExitReason.crashed, code, signal };
    this.#exit = exit;
    this.#qmp?.close();
    this.#channel?.destroy();
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const listener of listeners) listener(exit);
  }

  /** No parent, so no exit status: the socket's end announces the process's, and /proc confirms it. */
  async #watchAdopted(handle: VmmHandle, qmp: QmpClient): Promise<void> {
    await qmp.closed;
    while (isSameProcess(handle.pid, handle.startTime)) {
      await new Promise((resolve) => setTimeout(resolve, adoptedPollMs).unref());
    }
    if (this.#handle === handle) this.#ended(null, null);
  }

  /** Whether the VM is gone within the limit. */
  #gone(limitMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        stopListening();
        resolve(false);
      }, limitMs);
      const stopListening = this.onExit(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  /** Lets go of the VM without ending it: what a worker that shuts down does. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#channel?.destroy();
    this.#qmp?.close();
  }
}
