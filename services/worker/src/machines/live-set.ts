/** The VMs that this worker holds, and the logs of its machines. */
import { HearthError } from "@hearth/errors";
import type { Logger } from "@hearth/telemetry";
import type { Vmm } from "@hearth/vmm";
import type { HostPaths } from "../host/host-paths.ts";
import type { LiveMachines } from "../runs/run-parts.ts";
import type { Clock } from "../worker-deps.ts";
import { LiveMachine } from "./live-machine.ts";
import { MachineLog } from "./machine-log.ts";
import type { MachineStore } from "./machine-store.ts";

export interface LiveSetDeps {
  readonly makeVmm: () => Vmm;
  readonly paths: HostPaths;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long a VM that is being started is waited for before it is given up. */
  readonly abandonMs: number;
  /** The program or the VM of a machine has ended. */
  readonly onEnd: (machineId: string) => void;
}

export class LiveSet implements LiveMachines {
  readonly #deps: LiveSetDeps;
  readonly #live = new Map<string, LiveMachine>();
  readonly #logs = new Map<string, MachineLog>();

  constructor(deps: LiveSetDeps) {
    this.#deps = deps;
  }

  get(machineId: string): LiveMachine | undefined {
    return this.#live.get(machineId);
  }

  make(machineId: string, boot: string): LiveMachine {
    const known = this.#live.get(machineId);
    if (known !== undefined) return known;
    const { makeVmm, clock, logger, abandonMs, onEnd } = this.#deps;
    const live = new LiveMachine({
      vmm: makeVmm(),
      boot,
      log: this.log(machineId),
      clock,
      abandonMs,
      logger: logger.child({ machine_id: machineId }),
      onEnd: () => onEnd(machineId),
    });
    this.#live.set(machineId, live);
    return live;
  }

  async drop(machineId: string): Promise<void> {
    const live = this.#live.get(machineId);
    this.#live.delete(machineId);
    await live?.release();
  }

  log(machineId: string): MachineLog {
    const log = this.#logs.get(machineId) ?? new MachineLog(this.#deps.paths.machine(machineId));
    this.#logs.set(machineId, log);
    return log;
  }

  async closeLog(machineId: string): Promise<void> {
    const log = this.#logs.get(machineId);
    this.#logs.delete(machineId);
    await log?.close();
  }

  /** Lets go of everything; the machines run on. */
  async release(): Promise<void> {
    await Promise.allSettled([...this.#live.keys()].map((machineId) => this.drop(machineId)));
    await Promise.allSettled([...this.#logs.keys()].map((machineId) => this.closeLog(machineId)));
  }
}

/** @throws HearthError `machine_not_found`, `vmm_not_running` */
export function runningMachine(
  store: Pick<MachineStore, "get">,
  live: Pick<LiveSet, "get">,
  machineId: string,
): LiveMachine {
  const { state } = store.get(machineId);
  const machine = live.get(machineId);
  if (machine === undefined || machine.vmExit !== undefined || (state !== "started" && state !== "stopping"))
    throw new HearthError("vmm_not_running", {
      message: `The machine is ${state}; start it first.`,
      details: { state },
    });
  return machine;
}
