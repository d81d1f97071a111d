/**
 * The simulated driver: the same contract without a VM, for scale and fault simulation. Nothing that a user
 * can set selects it.
 */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
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
import type { SimHost } from "./sim-host.ts";
import type { SimMachine } from "./sim-machine.ts";

interface SimSnapshot {
  readonly kind: "sim";
  readonly spec: VmmSpec;
  readonly state: unknown;
}

export class SimVmm implements Vmm {
  readonly kind = VmmKind.sim;
  readonly #host: SimHost;
  #machine: SimMachine | null = null;
  readonly #waiting = new Map<(exit: VmmExit) => void, () => void>();

  constructor(host: SimHost) {
    this.#host = host;
  }

  async start(spec: VmmSpec): Promise<VmmHandle> {
    await this.#host.beforeCall("start", spec.id);
    return this.#running()?.handle ?? this.#take(this.#host.run(spec, null));
  }

  async adopt(handle: VmmHandle): Promise<void> {
    await this.#host.beforeCall("adopt", handle.id);
    const machine = this.#host.find(handle);
    if (machine === undefined) throw new HearthError("vmm_not_running");
    if (this.#running() === null) this.#take(machine);
  }

  async channel(): Promise<Duplex> {
    return (await this.#called("channel")).open();
  }

  async pause(): Promise<void> {
    (await this.#called("pause")).pause();
  }

  async resume(): Promise<void> {
    (await this.#called("resume")).resume();
  }

  async snapshot(dir: string): Promise<void> {
    const machine = await this.#called("snapshot");
    machine.pause();
    const snapshot: SimSnapshot = { kind: "sim", spec: machine.handle.spec, state: machine.save() };
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, "snapshot.json.new"), JSON.stringify(snapshot), { mode: 0o600 });
    await rename(join(dir, "snapshot.json.new"), join(dir, "snapshot.json"));
  }

  async restore(dir: string, overrides: VmmRestoreOverrides): Promise<VmmHandle> {
    await this.#host.beforeCall("restore", overrides.id);
    const running = this.#running();
    if (running !== null) return running.handle;
    const snapshot = await readSnapshot(dir);
    const spec: VmmSpec = { ...snapshot.spec, ...overrides };
    if (spec.disks.length !== snapshot.spec.disks.length || spec.nics.length !== snapshot.spec.nics.length) {
      throw new HearthError("vmm_snapshot_invalid");
    }
    return this.#take(this.#host.run(spec, snapshot.state));
  }

  async stop(graceMs: number): Promise<void> {
    const machine = this.#running();
    if (machine === null) return;
    await this.#host.beforeCall("stop", machine.handle.id);
    machine.resume();
    machine.powerButton();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, graceMs);
      machine.onExit(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    await this.kill();
  }

  async kill(): Promise<void> {
    const machine = this.#running();
    if (machine === null) return;
    await this.#host.beforeCall("kill", machine.handle.id);
    machine.end({ reason: VmmExitReason.requested, code: null, signal: "SIGKILL" });
  }

  async stats(): Promise<VmmStats> {
    return (await this.#called("stats")).stats();
  }

  onExit(listener: (exit: VmmExit) => void): () => void {
    // Before the start there is no machine to ask; the listener is handed over when there is one.
    this.#waiting.set(listener, this.#machine?.onExit(listener) ?? (() => undefined));
    return () => {
      this.#waiting.get(listener)?.();
      this.#waiting.delete(listener);
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const stopListening of this.#waiting.values()) stopListening();
    this.#waiting.clear();
    this.#machine = null;
  }

  #running(): SimMachine | null {
    return this.#machine?.exit === null ? this.#machine : null;
  }

  async #called(call: string): Promise<SimMachine> {
    const machine = this.#running();
    if (machine === null) throw new HearthError("vmm_not_running");
    await this.#host.beforeCall(call, machine.handle.id);
    return machine;
  }

  #take(machine: SimMachine): VmmHandle {
    const before = this.#machine;
    this.#machine = machine;
    if (before === null) {
      for (const listener of this.#waiting.keys()) this.#waiting.set(listener, machine.onExit(listener));
    }
    return machine.handle;
  }
}

async function readSnapshot(dir: string): Promise<SimSnapshot> {
  try {
    const snapshot = JSON.parse(await readFile(join(dir, "snapshot.json"), "utf8")) as Partial<SimSnapshot>;
    if (snapshot.kind !== "sim" || snapshot.spec === undefined) throw new Error(`kind ${snapshot.kind}`);
    return snapshot as SimSnapshot;
  } catch (cause) {
    throw new HearthError("vmm_snapshot_invalid", { cause });
  }
}
