/**
 * Machines that were promised and of which no worker has been heard yet: the name and the key of a create are facts
 * before a worker is asked, and the worker's own word can take its time when it is cut off from the bus's leader. Until
 * then nobody may say that there is no such machine, nor give its name and its key to another.
 *
 * For how long is counted on this process's monotonic clock since it heard the promise: the time that the fact tells is
 * of another host, which may be an hour off.
 */
import type { Fact, Replica } from "@hearth/cluster";
import { factPrefixes, type MachineNameFact } from "@hearth/machine";

export interface PendingMachinesDeps {
  /** Already started. */
  readonly replica: Pick<Replica, "scan" | "watch">;
  readonly isKnown: (machineId: string) => boolean;
  readonly nowMs: () => number;
  readonly monotonicMs: () => number;
}

interface Promised {
  readonly key: string;
  readonly machineId: string;
  readonly heardMs: number;
}

/** A create that takes longer than this to show its machine has failed. */
const promisedMs = 60_000;
/** Whose machine is unknown after so long was left behind; hosts' clocks do not differ by that much. */
const leftBehindMs = 24 * 3_600_000;
const promises = [factPrefixes.machineName, factPrefixes.idempotency] as const;

export class PendingMachines {
  readonly #deps: PendingMachinesDeps;
  /** In the order in which they were heard. */
  readonly #promised = new Map<string, Promised>();
  readonly #keys = new Map<string, Set<string>>();

  constructor(deps: PendingMachinesDeps) {
    this.#deps = deps;
    const { replica } = deps;
    for (const prefix of promises) {
      for (const fact of replica.scan(prefix)) this.#take(fact);
      // A promise that is put back is as old as it was, and often that of a machine which is gone.
      replica.watch(prefix, (fact, { isPutBack }) => {
        if (!isPutBack) this.#take(fact);
      });
    }
    // Its worker's last word is one too: of a short life it may be the only one that is heard.
    replica.watch(factPrefixes.machine, ({ key }) => {
      for (const promise of this.#keys.get(key.slice(key.lastIndexOf(".") + 1)) ?? []) this.#drop(promise);
    });
  }

  /** Whether the fact of this key promised a machine a short while ago that nobody has heard of. */
  isPending(key: string): boolean {
    const promised = this.#promised.get(key);
    return promised !== undefined && this.#isYoung(promised);
  }

  /** Whether a machine of this id was promised in the app. */
  mayAppear(app: string, machineId: string): boolean {
    const names = `${factPrefixes.machineName}${app}.`;
    return [...(this.#keys.get(machineId) ?? [])].some((key) => key.startsWith(names) && this.isPending(key));
  }

  #take({ key, value }: Fact): void {
    this.#drop(key);
    for (const promised of this.#promised.values()) {
      if (this.#isYoung(promised)) break;
      this.#drop(promised.key);
    }
    const { machine_id: machineId, taken_at_ms: takenMs } = (value ?? {}) as Partial<MachineNameFact>;
    if (machineId === undefined || takenMs === undefined || this.#deps.isKnown(machineId)) return;
    if (this.#deps.nowMs() - takenMs > leftBehindMs) return;
    this.#promised.set(key, { key, machineId, heardMs: this.#deps.monotonicMs() });
    this.#keys.set(machineId, (this.#keys.get(machineId) ?? new Set()).add(key));
  }

  #drop(key: string): void {
    const promised = this.#promised.get(key);
    if (promised === undefined) return;
    this.#promised.delete(key);
    const keys = this.#keys.get(promised.machineId);
    keys?.delete(key);
    if (keys?.size === 0) this.#keys.delete(promised.machineId);
  }

  #isYoung({ heardMs }: Promised): boolean {
    return this.#deps.monotonicMs() - heardMs <= promisedMs;
  }
}
