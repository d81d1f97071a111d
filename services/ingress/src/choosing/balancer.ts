/**
 * Gives each request a place, now or after it has waited: for a machine that starts, or for one that has room again.
 *
 * Waiting is bounded, in number and in time, and in the order of arrival. However many wait, a start is asked for once:
 * the waker sees to that. Whoever waits is tried again when a machine of its app changes, and when a place is given back.
 */

import type { RefusalCode } from "../http/refusal.ts";
import type { IngressLimits } from "../limits.ts";
import type { EndpointState } from "../routes/endpoint.ts";
import type { RouteTable } from "../routes/route-table.ts";
import type { LoadedTarget } from "../routes/targets.ts";
import { choosePlace, isAboveSoft, type LoadedPlace } from "./choose-place.ts";
import type { OtherLoads } from "./other-loads.ts";
import { looksUnreachable } from "./unreachable.ts";

export class Refused extends Error {
  readonly code: RefusalCode;
  /** For the log. */
  readonly why: string | undefined;
  constructor(code: RefusalCode, why?: string) {
    super(code);
    this.code = code;
    this.why = why;
  }
}

export interface Wake {
  /** Why the last try to start one failed, while it is not tried again. */
  readonly failure: string | undefined;
}

/**
 * What a request waits for. asleep: a machine that it woke. waking: one that starts, is replaced or has not passed its
 * checks yet. leaving: one that stops, and is started again then. full: room at a machine.
 */
export type WaitReason = "asleep" | "waking" | "leaving" | "full";

/** Who looks for a place. */
export interface Seeker {
  /** Aborted when it needs none any more. */
  readonly signal: AbortSignal;
  /** It has to wait, and why. */
  waits(why: WaitReason): void;
}

export interface BalancerDeps {
  readonly table: RouteTable;
  readonly nodeId: string;
  readonly limits: IngressLimits;
  /** Told of each change of what this process has at a service of a machine. */
  readonly loadChanged?: (machineId: string, internalPort: number, active: number) => void;
  /** Asks that one of these machines is started, if none is being started; undefined when it cannot be. */
  readonly wake: (target: LoadedTarget) => Wake | undefined;
  /** All services of all machines of an app. */
  readonly placesOf: (app: string) => readonly LoadedPlace[];
  readonly others: OtherLoads;
}

interface Waiter {
  readonly find: () => LoadedTarget | undefined;
  readonly tried: ReadonlySet<string>;
  readonly resolve: (place: LoadedPlace) => void;
  readonly reject: (error: Refused) => void;
}

export class Balancer {
  readonly #deps: BalancerDeps;
  readonly #waiting = new Map<string, Set<Waiter>>();
  #turn = 0;

  constructor(deps: BalancerDeps) {
    this.#deps = deps;
    deps.table.watch((app) => this.retry(app));
  }

  waitingFor(app: string): number {
    return this.#waiting.get(app)?.size ?? 0;
  }

  /** By app; only those for which somebody waits. */
  waiting(): Record<string, number> {
    return Object.fromEntries([...this.#waiting].map(([app, waiters]) => [app, waiters.size]));
  }

  /**
   * A place, counted as taken; `release` gives it back. At once where there is one, so that a request that need not
   * wait does not.
   * @param find looks anew each time that something has changed
   * @param seeker is asked for its signal, and told, only when there is something to wait for
   * @throws Refused
   */
  acquire(
    find: () => LoadedTarget | undefined,
    tried: ReadonlySet<string>,
    seeker?: Seeker,
  ): LoadedPlace | Promise<LoadedPlace> {
    const target = find();
    if (target === undefined) throw new Refused("no_machine", "its machines are gone");
    // Who came before has the first right.
    const place = this.waitingFor(target.app) > 0 ? undefined : this.#take(target, tried);
    if (place !== undefined) return place;
    seeker?.waits(waitReason(target, tried));
    return this.#wait(target, { find, tried }, seeker?.signal);
  }

  release({ load, endpoint, service }: LoadedPlace, nowMs = performance.now()): void {
    load.active -= 1;
    load.busyMs = nowMs;
    this.#deps.loadChanged?.(endpoint.id, service.internalPort, load.active);
    if (this.#waiting.size > 0) this.retry(endpoint.app);
  }

  /**
   * After a connection that did not come about. Where it looks as if the host were gone, its other machines of the app
   * come last as well: each of them would be waited for as long. Those of other apps do not, as a guest that drops what
   * it is sent looks the same.
   */
  avoid({ load, endpoint }: LoadedPlace, error?: unknown): void {
    const { limits, nodeId, placesOf } = this.#deps;
    const nowMs = performance.now();
    load.avoidUntilMs = nowMs + limits.avoidMs;
    if (endpoint.nodeId === nodeId || !looksUnreachable(error)) return;
    for (const place of placesOf(endpoint.app))
      if (place.endpoint.nodeId === endpoint.nodeId) place.load.avoidUntilMs = nowMs + limits.avoidHostMs;
  }

  /** Why a request is refused that found no other machine after this error. */
  refusalOf({ endpoint }: LoadedPlace, error: unknown): RefusalCode {
    const isFar = endpoint.nodeId !== this.#deps.nodeId;
    return isFar && looksUnreachable(error) ? "unreachable" : "guest_refused";
  }

  /** Whether the machine is so new that its program may only be about to listen. */
  isSettling({ load, endpoint }: LoadedPlace, error?: unknown): boolean {
    if (endpoint.nodeId !== this.#deps.nodeId && looksUnreachable(error)) return false;
    return load.readyMs !== undefined && performance.now() - load.readyMs < this.#deps.limits.settleMs;
  }

  /** What waits is told why it will not go on. */
  refuse(app: string, error: Refused): void {
    for (const waiter of this.#waiting.get(app) ?? []) waiter.reject(error);
  }

  stop(): void {
    for (const app of [...this.#waiting.keys()]) this.refuse(app, new Refused("stopping"));
  }

  #take(target: LoadedTarget, tried: ReadonlySet<string>): LoadedPlace | undefined {
    this.#turn = (this.#turn + 1) % 1_000_000;
    const { nodeId, others, loadChanged } = this.#deps;
    const nowMs = performance.now();
    const place = choosePlace(target.places, { nodeId, nowMs, tried, others, turn: this.#turn });
    if (place === undefined) return undefined;
    // All others have as much to do: one more machine would help before somebody has to wait.
    if (isAboveSoft(place, others)) this.#deps.wake(target);
    place.load.active += 1;
    loadChanged?.(place.endpoint.id, place.service.internalPort, place.load.active);
    return place;
  }

  async #wait(
    target: LoadedTarget,
    { find, tried }: Pick<Waiter, "find" | "tried">,
    signal: AbortSignal | undefined,
  ): Promise<LoadedPlace> {
    const { limits } = this.#deps;
    const problem = this.#hopeless(target, tried);
    if (problem !== undefined) throw problem;
    const waiters = this.#waiting.get(target.app) ?? new Set<Waiter>();
    if (waiters.size >= limits.waiting) throw new Refused("too_many_waiting");
    this.#waiting.set(target.app, waiters);
    let timer: NodeJS.Timeout | undefined;
    let waiter: Waiter | undefined;
    let cancel: (() => void) | undefined;
    try {
      return await new Promise<LoadedPlace>((resolve, reject) => {
        waiter = { find, tried, resolve, reject };
        waiters.add(waiter);
        timer = setTimeout(() => {
          const now = find();
          const full = now?.places.some(({ endpoint }) => endpoint.state === "ready") === true;
          reject(new Refused(full ? "overloaded" : "waking"));
        }, limits.waitMs);
        cancel = () => reject(new Refused("stopping", "the client went away"));
        signal?.addEventListener("abort", cancel, { once: true });
      });
    } finally {
      clearTimeout(timer);
      if (cancel !== undefined) signal?.removeEventListener("abort", cancel);
      if (waiter !== undefined) waiters.delete(waiter);
      if (waiters.size === 0 && this.#waiting.get(target.app) === waiters) this.#waiting.delete(target.app);
    }
  }

  /** Why there is nothing to wait for; asks for a start where one is needed. */
  #hopeless(target: LoadedTarget, tried: ReadonlySet<string>): Refused | undefined {
    const left = target.places.filter(({ endpoint }) => !tried.has(endpoint.id));
    const states = new Set(left.map(({ endpoint }) => endpoint.state));
    const autostart = left.some(({ service }) => service.autostart);
    if (states.has("ready")) {
      this.#deps.wake(target);
      return undefined;
    }
    if (states.has("waking")) return undefined;
    if (states.has("leaving") && autostart) return undefined;
    const wake = states.has("asleep") ? this.#deps.wake(target) : undefined;
    if (wake?.failure !== undefined) return new Refused("wake_failed", wake.failure);
    if (wake !== undefined) return undefined;
    const isLost = target.places.some(({ endpoint }) => endpoint.state === "lost");
    return new Refused(isLost ? "unreachable" : "no_machine", [...states].join());
  }

  /** After a change: who waits is given a place, or is told why there is none to wait for. */
  retry(app: string): void {
    for (const waiter of [...(this.#waiting.get(app) ?? [])]) {
      const target = waiter.find();
      const place = target && this.#take(target, waiter.tried);
      if (place !== undefined) {
        this.#waiting.get(app)?.delete(waiter);
        waiter.resolve(place);
        continue;
      }
      const problem = target === undefined ? new Refused("no_machine") : this.#hopeless(target, waiter.tried);
      // Nobody behind it can have what it cannot, so one look is enough.
      if (problem === undefined) return;
      waiter.reject(problem);
    }
  }
}

function waitReason({ places }: LoadedTarget, tried: ReadonlySet<string>): WaitReason {
  const states = new Set<EndpointState>();
  for (const { endpoint } of places) if (!tried.has(endpoint.id)) states.add(endpoint.state);
  if (states.has("ready")) return "full";
  if (states.has("waking")) return "waking";
  return states.has("leaving") ? "leaving" : "asleep";
}
