import {
  egressSlots,
  firstEgressSlot,
  firstMachine,
  nextEgressSlot,
  nextMachineNumber,
} from "@hearth/network";
import type { MachineRow } from "../machines/machine-row.ts";
import type { MachineStore } from "../machines/machine-store.ts";

/**
 * The numbers in a machine's addresses, for as long as it lives. A number is given out again as late as can be,
 * because a peer may still hold a connection or a cached name for the machine that had it.
 */
export class SlotNumbers {
  readonly #store: Pick<MachineStore, "meta" | "setMeta">;
  readonly #nodeId: string;

  constructor(store: Pick<MachineStore, "meta" | "setMeta">, nodeId: string) {
    this.#store = store;
    this.#nodeId = nodeId;
  }

  /** Call inside the transaction that inserts the machine. @throws HearthError `network_exhausted` */
  next(
    machines: readonly MachineRow[],
    network: number,
  ): { readonly machineNumber: number; readonly egressSlot: number } {
    const living = machines.filter(({ state }) => state !== "destroyed");
    const inNetwork = living.filter((row) => row.network === network).map((row) => row.machineNumber);
    const machineNumber = nextMachineNumber(
      new Set(inNetwork),
      this.#cursor(`machine.${network}`, firstMachine),
    );
    const egressSlot = nextEgressSlot(
      new Set(living.map((row) => row.egressSlot)),
      this.#cursor("egress", firstEgressSlot(this.#nodeId)),
    );
    this.#store.setMeta(`machine.${network}`, String(machineNumber + 1));
    this.#store.setMeta("egress", String((egressSlot + 1) % egressSlots));
    return { machineNumber, egressSlot };
  }

  #cursor(key: string, first: number): number {
    return Number(this.#store.meta(key) ?? first);
  }
}
