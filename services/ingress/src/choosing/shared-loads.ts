/**
 * What everybody has at each service of each machine, and who is still to be told of it: one book for a process.
 *
 * Who reports is a source: this process, another one of the host, the door of another host. Who is told is a receiver,
 * which may be a source as well, and is told the sum of what all others have. Each is told what has changed, after a
 * pause in which more of it gathers, so that it costs the same however many requests there are. A service that was
 * mentioned was busy, also when it has nothing to do any more: that is how autostop learns of a short request.
 *
 * A message may be lost, and a door may die. So a receiver can be told all there is from time to time, and what a
 * source said is forgotten when it says nothing for the length of its lease.
 */
import { type LoadEntry, type LoadReport, mostLoadEntries } from "@hearth/cluster";
import type { OtherLoads } from "./other-loads.ts";

export interface Receiver {
  readonly name: string;
  /** From a change until it is told. */
  readonly pauseMs: number;
  /** How often it is told all; never when absent. */
  readonly wholeEveryMs?: number;
  /** Whose loads it is told, besides that they are not its own. */
  readonly hears: (source: string) => boolean;
  readonly tell: (report: LoadReport) => void;
}

interface Shelf {
  readonly bySource: Map<string, number>;
  /** Of all sources but this process. */
  others: number;
}

interface Told extends Receiver {
  readonly due: Map<string, Map<number, Shelf>>;
  timer: NodeJS.Timeout | undefined;
  wholeTimer: NodeJS.Timeout | undefined;
  /** Whether what it was told last time in whole was nothing. */
  isEmpty: boolean;
}

export interface SharedLoadsDeps {
  /** After a source but this process has said something of a service. */
  readonly heard?: (entry: LoadEntry) => void;
  readonly nowMs: () => number;
}

export const ownSource = "own";
/** Between processes of a host. */
export const loadsPauseMs = 50;

export class SharedLoads implements OtherLoads {
  readonly #deps: SharedLoadsDeps;
  readonly #machines = new Map<string, Map<number, Shelf>>();
  readonly #receivers = new Map<string, Told>();
  readonly #heardAtMs = new Map<string, number>();

  constructor(deps: SharedLoadsDeps) {
    this.#deps = deps;
  }

  of(machineId: string, internalPort?: number): number {
    const shelves = this.#machines.get(machineId);
    if (shelves === undefined) return 0;
    if (internalPort !== undefined) return shelves.get(internalPort)?.others ?? 0;
    let sum = 0;
    for (const { others } of shelves.values()) sum += others;
    return sum;
  }

  /** What this process has at a service now. */
  own(machineId: string, internalPort: number, active: number): void {
    this.#set(ownSource, [machineId, internalPort, active]);
  }

  take(source: string, { whole, loads }: LoadReport): void {
    this.#heardAtMs.set(source, this.#deps.nowMs());
    if (whole) this.#clear(source, new Set(loads.map(([id, port]) => `${id}:${port}`)));
    for (const entry of loads) this.#set(source, entry);
  }

  /** What it had counts no more. */
  forget(source: string): void {
    this.#heardAtMs.delete(source);
    this.#clear(source, new Set());
  }

  /** Forgets those sources of a lease that said nothing for so long. */
  expire(leaseMs: number, hasLease: (source: string) => boolean): string[] {
    const beforeMs = this.#deps.nowMs() - leaseMs;
    const silent = [...this.#heardAtMs].filter(([source, atMs]) => hasLease(source) && atMs < beforeMs);
    for (const [source] of silent) this.forget(source);
    return silent.map(([source]) => source);
  }

  /** Begins with all that there is. */
  addReceiver(receiver: Receiver): void {
    const told: Told = {
      ...receiver,
      due: new Map(),
      timer: undefined,
      wholeTimer: undefined,
      isEmpty: true,
    };
    this.#receivers.set(receiver.name, told);
    this.#tellWhole(told);
    if (receiver.wholeEveryMs !== undefined)
      told.wholeTimer = setInterval(() => this.#tellWhole(told), receiver.wholeEveryMs).unref();
  }

  removeReceiver(name: string): void {
    const told = this.#receivers.get(name);
    clearTimeout(told?.timer);
    clearInterval(told?.wholeTimer);
    this.#receivers.delete(name);
  }

  stop(): void {
    for (const name of [...this.#receivers.keys()]) this.removeReceiver(name);
  }

  #set(source: string, [machineId, internalPort, active]: LoadEntry): void {
    const known = this.#machines.get(machineId);
    const knownShelf = known?.get(internalPort);
    const shelves = known ?? new Map<number, Shelf>();
    const shelf = knownShelf ?? { bySource: new Map<string, number>(), others: 0 };
    const before = shelf.bySource.get(source) ?? 0;
    if (source !== ownSource) shelf.others += active - before;
    if (active === 0) shelf.bySource.delete(source);
    else shelf.bySource.set(source, active);
    if (shelf.bySource.size === 0) {
      shelves.delete(internalPort);
      if (shelves.size === 0) this.#machines.delete(machineId);
    } else if (knownShelf === undefined) this.#machines.set(machineId, shelves.set(internalPort, shelf));
    if (this.#receivers.size > 0) this.#note(source, [machineId, internalPort, shelf]);
    if (source !== ownSource) this.#deps.heard?.([machineId, internalPort, active]);
  }

  /** For all that are to be told of it. */
  #note(source: string, [machineId, internalPort, shelf]: readonly [string, number, Shelf]): void {
    for (const told of this.#receivers.values()) {
      if (told.name === source || !told.hears(source)) continue;
      const due = told.due.get(machineId) ?? new Map<number, Shelf>();
      told.due.set(machineId, due.set(internalPort, shelf));
      told.timer ??= setTimeout(() => this.#tellDue(told), told.pauseMs).unref();
    }
  }

  #clear(source: string, kept: ReadonlySet<string>): void {
    for (const [machineId, shelves] of [...this.#machines])
      for (const [port, { bySource }] of [...shelves])
        if (bySource.has(source) && !kept.has(`${machineId}:${port}`))
          this.#set(source, [machineId, port, 0]);
  }

  #tellDue(told: Told): void {
    told.timer = undefined;
    const loads = entriesOf(told.due, told);
    told.due.clear();
    told.isEmpty = false;
    told.tell({ whole: false, loads });
  }

  #tellWhole(told: Told): void {
    const loads = entriesOf(this.#machines, told).filter(([, , active]) => active > 0);
    // Silence says the same as nothing, to whoever was told nothing before.
    if (loads.length === 0 && told.isEmpty) return;
    told.isEmpty = loads.length === 0;
    told.tell({ whole: true, loads });
  }
}

function entriesOf(
  machines: ReadonlyMap<string, ReadonlyMap<number, Shelf>>,
  { name, hears }: Receiver,
): LoadEntry[] {
  const entries: LoadEntry[] = [];
  for (const [machineId, shelves] of machines)
    for (const [port, { bySource }] of shelves) {
      let sum = 0;
      for (const [source, active] of bySource) if (source !== name && hears(source)) sum += active;
      if (entries.length < mostLoadEntries) entries.push([machineId, port, sum]);
    }
  return entries;
}
