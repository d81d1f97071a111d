/**
 * One start for each app at a time, whoever asks: each process of the door wakes on its own, and all of them would wake
 * one machine each. Whoever asks while a start is under way shares what comes of it.
 */
import type { Endpoint, EndpointState } from "../routes/endpoint.ts";

export interface StartOnceDeps {
  /** Undefined for a machine that is gone. */
  readonly machine: (id: string) => { readonly app: string; readonly state: EndpointState } | undefined;
  /** Resolves when the worker has taken the command. */
  readonly start: (machine: Pick<Endpoint, "id" | "nodeId">) => Promise<void>;
  readonly nowMs: () => number;
  /** A start that was taken and of which nothing is seen in this time may be asked for again. */
  readonly seenMs?: number;
}

interface Begun {
  readonly machineId: string;
  readonly atMs: number;
  readonly result: Promise<void>;
}

const defaultSeenMs = 10_000;

export class StartOnce {
  readonly #deps: StartOnceDeps;
  readonly #begun = new Map<string, Begun>();

  constructor(deps: StartOnceDeps) {
    this.#deps = deps;
  }

  start(wanted: Pick<Endpoint, "id" | "nodeId">): Promise<void> {
    const machineId = wanted.id;
    const { machine, start, nowMs } = this.#deps;
    const app = machine(machineId)?.app;
    if (app === undefined) return start(wanted);
    const before = this.#begun.get(app);
    if (before !== undefined && this.#isUnderWay(before)) return before.result;
    const result = start(wanted);
    const begun = { machineId, atMs: nowMs(), result };
    this.#begun.set(app, begun);
    const forget = (): void => {
      if (this.#begun.get(app) === begun) this.#begun.delete(app);
    };
    result.catch(forget);
    return result;
  }

  #isUnderWay({ machineId, atMs }: Begun): boolean {
    const state = this.#deps.machine(machineId)?.state;
    if (state === "waking") return true;
    return state === "asleep" && this.#deps.nowMs() - atMs < (this.#deps.seenMs ?? defaultSeenMs);
  }
}
