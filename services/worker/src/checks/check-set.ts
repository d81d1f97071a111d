/**
 * Health checks run while their machine is started and this worker holds its VM: begun, adopted and ended by the
 * same look at the record. Whoever changed the record, or the VMs that are held, calls `follow`.
 */
import type { CheckSpec } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { LiveMachine } from "../machines/live-machine.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import type { MachineStore } from "../machines/machine-store.ts";
import type { LiveMachines } from "../runs/run-parts.ts";
import type { Clock } from "../worker-deps.ts";
import { type Connect, probeOnce } from "./check-probe.ts";
import { CheckRunner } from "./check-runner.ts";
import { checkSeen, type Seen, specsOf } from "./machine-checks.ts";

export interface CheckSetDeps {
  readonly store: Pick<MachineStore, "find" | "change">;
  readonly live: Pick<LiveMachines, "get">;
  readonly clock: Clock;
  readonly connect: Connect;
  readonly addressOf: (row: MachineRow) => string;
  readonly logger: Logger;
}

export class CheckSet {
  readonly #deps: CheckSetDeps;
  readonly #running = new Map<string, { readonly boot: string; readonly runner: CheckRunner }>();
  readonly #ending = new Set<Promise<void>>();
  #released = false;

  constructor(deps: CheckSetDeps) {
    this.#deps = deps;
  }

  follow(machineId: string): void {
    const row = this.#deps.store.find(machineId);
    const live = this.#deps.live.get(machineId);
    const boot = row?.state === "started" && !this.#released ? row.boot : null;
    const known = this.#running.get(machineId);
    if (known !== undefined && known.boot !== boot) this.#end(machineId, known.runner);
    if (row === undefined || live === undefined || boot === null || known?.boot === boot) return;
    const runner = this.#runner(row, boot, live);
    this.#running.set(machineId, { boot, runner });
    runner.start();
  }

  /** Nothing is probed any more, and nothing begins again. */
  async release(): Promise<void> {
    this.#released = true;
    for (const [machineId, { runner }] of this.#running) this.#end(machineId, runner);
    await Promise.all(this.#ending);
  }

  #end(machineId: string, runner: CheckRunner): void {
    this.#running.delete(machineId);
    const ending = runner.stop().finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  #runner(row: MachineRow, boot: string, live: LiveMachine): CheckRunner {
    const { clock, connect, addressOf, logger } = this.#deps;
    const { machineId } = row;
    const target = {
      host: addressOf(row),
      connect,
      user: row.image?.config.user ?? "",
      workdir: row.image?.config.workdir ?? "",
      call: live.call.bind(live),
    };
    return new CheckRunner({
      specs: specsOf(row),
      startedMs: row.startedMs ?? clock.nowMs(),
      clock,
      probe: (probe, signal) => probeOnce(probe, target, signal),
      onSeen: (spec, seen) => this.#seen(machineId, boot, spec, seen),
      onError: (error) => logger.error({ err: error, machine_id: machineId }, "a check was not recorded"),
    });
  }

  /** Looks before it begins a transaction, as nearly all probes see what the one before saw. */
  #seen(machineId: string, boot: string, spec: CheckSpec, seen: Seen): void {
    const { store, live, clock } = this.#deps;
    if (live.get(machineId)?.exit !== undefined) return; // it says nothing of a program that has ended
    const decide = (row: MachineRow) => checkSeen(row, boot, spec, seen, clock.nowMs());
    const row = store.find(machineId);
    if (row !== undefined && decide(row) !== undefined) store.change(machineId, decide);
  }
}
