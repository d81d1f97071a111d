/**
 * A host of machines that exist only in this process: what outlives a simulated worker.
 *
 * Workers of a simulation come and go as objects; the machines stay here, as the processes of real ones stay
 * on the host. `beforeCall` is where a simulation puts delays and failures, and `crash` ends a machine
 * behind the worker's back.
 */
import type { VmmExit, VmmHandle, VmmSpec } from "../port.ts";
import { type SimGuestFactory, SimMachine } from "./sim-machine.ts";

export interface SimHostDeps {
  readonly guest: SimGuestFactory;
  readonly now: () => number;
  /** Runs before each call of a driver; what it throws is what the call throws. */
  readonly beforeCall?: (call: string, machineId: string) => Promise<void> | void;
}

export class SimHost {
  readonly #deps: SimHostDeps;
  readonly #machines = new Map<string, SimMachine>();
  #nextPid = 1;

  constructor(deps: SimHostDeps) {
    this.#deps = deps;
  }

  async beforeCall(call: string, machineId: string): Promise<void> {
    await this.#deps.beforeCall?.(call, machineId);
  }

  run(spec: VmmSpec, state: unknown): SimMachine {
    const pid = this.#nextPid++;
    // No sockets: what a real driver finds under these names is found here by pid and start time.
    const handle: VmmHandle = {
      ...{ kind: "sim", id: spec.id, pid, startTime: `sim-${pid}`, spec },
      ...{ qmpSocket: `sim:${pid}/qmp`, agentSocket: `sim:${pid}/agent` },
    };
    const machine = new SimMachine({ handle, guest: this.#deps.guest, state, now: this.#deps.now });
    this.#machines.set(key(handle), machine);
    machine.onExit(() => this.#machines.delete(key(handle)));
    return machine;
  }

  find(handle: VmmHandle): SimMachine | undefined {
    return this.#machines.get(key(handle));
  }

  /** Ends a machine as a fault would. Nothing happens when it is gone. */
  crash(handle: VmmHandle): void {
    const exit: VmmExit = { reason: "crashed", code: null, signal: "SIGSEGV" };
    this.find(handle)?.end(exit);
  }

  get running(): readonly VmmHandle[] {
    return [...this.#machines.values()].map((machine) => machine.handle);
  }
}

const key = (handle: VmmHandle): string => `${handle.pid}:${handle.startTime}`;
