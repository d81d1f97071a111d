/** One simulated machine: a guest that is a function of bytes, a port to it, and whether time passes for it. */
import { Duplex } from "node:stream";
import { HearthError } from "@hearth/errors";
import type { VmmExit, VmmHandle, VmmStats } from "../port.ts";

/** What a simulated guest can do to the world. */
export interface SimGuestPort {
  send(bytes: Buffer): void;
  powerOff(): void;
  panic(): void;
}

export interface SimGuest {
  receive(bytes: Buffer): void;
  /** The power button; a guest that ignores it is ended after the grace period. */
  powerButton(): void;
  /** All that a copy needs to go on, as plain JSON. */
  save(): unknown;
}

/** `state` is what an earlier guest saved, or null at a boot. */
export type SimGuestFactory = (port: SimGuestPort, state: unknown) => SimGuest;

export interface SimMachineOptions {
  readonly handle: VmmHandle;
  readonly guest: SimGuestFactory;
  readonly state: unknown;
  readonly now: () => number;
}

export class SimMachine {
  readonly handle: VmmHandle;
  readonly #guest: SimGuest;
  readonly #now: () => number;
  readonly #startedAt: number;
  readonly #listeners = new Set<(exit: VmmExit) => void>();
  #exit: VmmExit | null = null;
  #paused = false;
  #channel: Duplex | null = null;
  /** What the guest said while nobody was connected, and what it was told while it was paused. */
  #unheard: Buffer[] = [];
  #untold: Buffer[] = [];

  constructor(options: SimMachineOptions) {
    this.handle = options.handle;
    this.#now = options.now;
    this.#startedAt = options.now();
    const end = (reason: "guest" | "panic") => this.end({ reason, code: 0, signal: null });
    const send = (bytes: Buffer) => {
      if (this.#channel === null) this.#unheard.push(bytes);
      else this.#channel.push(bytes);
    };
    this.#guest = options.guest(
      { send, powerOff: () => end("guest"), panic: () => end("panic") },
      options.state,
    );
  }

  get exit(): VmmExit | null {
    return this.#exit;
  }

  open(): Duplex {
    this.#needRunning();
    this.#channel?.destroy();
    const channel = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        if (this.#paused) this.#untold.push(chunk);
        else this.#guest.receive(chunk);
        done();
      },
    });
    channel.once("close", () => {
      if (this.#channel === channel) this.#channel = null;
    });
    this.#channel = channel;
    for (const bytes of this.#unheard.splice(0)) channel.push(bytes);
    return channel;
  }

  pause(): void {
    this.#needRunning();
    this.#paused = true;
  }

  resume(): void {
    this.#needRunning();
    this.#paused = false;
    for (const bytes of this.#untold.splice(0)) this.#guest.receive(bytes);
  }

  save(): unknown {
    this.#needRunning();
    return this.#guest.save();
  }

  powerButton(): void {
    if (this.#exit === null) this.#guest.powerButton();
  }

  stats(): VmmStats {
    this.#needRunning();
    const cpuTimeMs = Math.max(1, this.#now() - this.#startedAt);
    return { cpuTimeMs, residentBytes: this.handle.spec.memoryMib * 2 ** 20 };
  }

  end(exit: VmmExit): void {
    if (this.#exit !== null) return;
    this.#exit = exit;
    this.#channel?.destroy();
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const listener of listeners) listener(exit);
  }

  onExit(listener: (exit: VmmExit) => void): () => void {
    const exit = this.#exit;
    if (exit !== null) queueMicrotask(() => listener(exit));
    else this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #needRunning(): void {
    if (this.#exit !== null) throw new HearthError("vmm_not_running");
  }
}
