/**
 * Keeps the machines of a region where they belong: takes the lease of a node that has been silent for too long,
 * moves the machines of lost and drained nodes, and answers nodes that come back. Every API process does this; a
 * compare-and-set decides which of them. It is woken by facts and by a timer, takes no input, and what fails is
 * tried again by the next look. Only one thing at a time is done to one machine or one node.
 */
import { HearthError } from "@hearth/errors";
import type { LeaseFact } from "@hearth/machine";
import type { Revised } from "../state/cluster-view.ts";
import { decideLease, dropPlacement, type RegionDeps } from "../state/region-writes.ts";
import { advanceMove, isUnfinished, needsLease } from "./machine-move.ts";
import { beginMove, isComingUp, machinesOf } from "./node-drain.ts";
import { answerReturn } from "./node-return.ts";

export interface KeeperLimits {
  /** Added to a lease's own time: see `defaultLease` of the cluster package. */
  readonly marginMs: number;
  readonly tickMs: number;
  /** Before what failed, or was refused, is tried again. */
  readonly retryMs: number;
  /** How long a machine that was moved may take to start before the next one is moved all the same. */
  readonly comingUpMs: number;
  /** How long the place of a machine that nobody has any more is remembered. */
  readonly placementMs: number;
}

export const defaultKeeperLimits: KeeperLimits = {
  marginMs: 10_000,
  tickMs: 1_000,
  retryMs: 5_000,
  comingUpMs: 120_000,
  placementMs: 7_200_000,
};

export interface KeeperDeps extends RegionDeps {
  readonly monotonicMs: () => number;
  readonly limits: KeeperLimits;
}

const wakeMs = 50;

export class NodeKeeper {
  readonly #deps: KeeperDeps;
  readonly #busy = new Map<string, Promise<void>>();
  readonly #notBeforeMs = new Map<string, number>();
  readonly #sinceMs = new Map<string, number>();
  readonly #refused = new Map<string, { readonly revision: number; readonly sinceMs: number }>();
  #watching: Disposable | undefined;
  #timer: NodeJS.Timeout | undefined;
  #nextMs = Number.POSITIVE_INFINITY;
  #stopped = false;

  constructor(deps: KeeperDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#watching = this.#deps.view.region.onChange(() => this.#wake(wakeMs));
    this.#wake(0);
  }

  /** What is under way is waited for; what it decided, another process goes on with. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#watching?.[Symbol.dispose]();
    clearTimeout(this.#timer);
    await Promise.allSettled(this.#busy.values());
  }

  #wake(afterMs: number): void {
    const atMs = this.#deps.monotonicMs() + afterMs;
    if (this.#stopped || atMs >= this.#nextMs) return;
    clearTimeout(this.#timer);
    this.#nextMs = atMs;
    this.#timer = setTimeout(() => {
      this.#nextMs = Number.POSITIVE_INFINITY;
      try {
        this.#look();
      } catch (err) {
        this.#deps.logger.error({ err }, "the nodes of the region could not be looked at");
      }
      this.#wake(this.#deps.limits.tickMs);
    }, afterMs).unref();
  }

  #look(): void {
    const { view } = this.#deps;
    const { region } = view;
    const mayJudge = region.listen();
    for (const placement of region.placements()) {
      const { machine_id } = placement.value;
      if (isUnfinished(placement.value))
        this.#do(`move ${machine_id}`, () => advanceMove(this.#deps, placement));
      else this.#tidy(machine_id);
    }
    for (const lease of region.leases()) {
      const { node_id, state } = lease.value;
      if (state === "held" && mayJudge) this.#judge(lease);
      if (state === "fenced") this.#do(`node ${node_id}`, () => this.#rescueNext(node_id));
      if (state === "returning") this.#do(`node ${node_id}`, () => answerReturn(this.#deps, lease));
    }
    for (const { value } of region.policies())
      if (value.draining && region.lease(value.node_id)?.value.state === "held")
        this.#do(`node ${value.node_id}`, () => this.#drainNext(value.node_id));
  }

  #judge(lease: Revised<LeaseFact>): void {
    const { view, limits, logger } = this.#deps;
    const { node_id, ttl_ms, term } = lease.value;
    const silentMs = view.region.silentMs(node_id);
    if (silentMs < ttl_ms + limits.marginMs) return;
    this.#do(`node ${node_id}`, async () => {
      const fenced: LeaseFact = { node_id, ttl_ms, term: term + 1, state: "fenced" };
      if (await decideLease(this.#deps, fenced, lease.revision))
        logger.warn({ node_id, term: term + 1, silent_ms: Math.round(silentMs) }, "a node was given up");
    });
  }

  async #rescueNext(nodeId: string): Promise<void> {
    const { view } = this.#deps;
    if (view.region.placements().some(({ value }) => value.from_node_id === nodeId && isUnfinished(value)))
      return;
    const waiting = machinesOf(view, nodeId).filter(needsLease);
    for (const fact of waiting) {
      if (this.#isTooSoon(`begin ${fact.record.id}`) || this.#wasRefused(fact.record.id)) continue;
      if ((await beginMove(this.#deps, fact, "host_lost")) === undefined) return;
      this.#later(`begin ${fact.record.id}`);
    }
  }

  async #drainNext(nodeId: string): Promise<void> {
    const { view, limits } = this.#deps;
    if (view.region.placements().some(({ value }) => value.from_node_id === nodeId && isUnfinished(value)))
      return;
    const waiting = machinesOf(view, nodeId);
    if (isComingUp(view, nodeId) && this.#lasts(`coming ${nodeId}`) < limits.comingUpMs) return;
    this.#sinceMs.delete(`coming ${nodeId}`);
    for (const fact of waiting) {
      if (this.#isTooSoon(`begin ${fact.record.id}`) || this.#wasRefused(fact.record.id)) continue;
      if ((await beginMove(this.#deps, fact, "drain")) === undefined) return;
      this.#later(`begin ${fact.record.id}`);
    }
  }

  /** Once a machine has its place, other nodes forget it, and its own does not keep it down any more. */
  #tidy(machineId: string): void {
    const { view, worker, limits } = this.#deps;
    const placement = view.region.placement(machineId);
    if (placement === undefined) return;
    const { node_id, term } = placement.value;
    const claims = view.claims(machineId);
    if (claims.length === 0) {
      if (this.#lasts(`gone ${machineId}`) < limits.placementMs) return;
      this.#sinceMs.delete(`gone ${machineId}`);
      this.#do(`move ${machineId}`, async () => void (await dropPlacement(this.#deps, placement)));
      return;
    }
    const target = { machine_id: machineId, placement_term: term };
    for (const fact of claims) {
      if (view.region.lease(fact.node_id)?.value.state !== "held" || !view.isNodeFresh(fact)) continue;
      if (fact.node_id !== node_id && fact.record.state !== "destroying")
        this.#do(`forget ${machineId} ${fact.node_id}`, async () => {
          // It stays until the new node's fact is here: somebody may look for the machine.
          if (view.machineOn(node_id, machineId) === undefined && placement.value.state !== "moved") return;
          await worker.command(fact.node_id, "forget", target);
        });
      else if (fact.node_id === node_id && fact.yielded_term !== undefined)
        this.#do(`keep ${machineId}`, async () => void (await worker.change(node_id, "keep", target)));
    }
  }

  /** Begins what is not under way already. */
  #do(what: string, work: () => Promise<void>): void {
    if (this.#stopped || this.#busy.has(what) || this.#isTooSoon(what)) return;
    const run = work().then(
      () => undefined,
      (thrown: unknown) => {
        this.#deps.logger.warn({ err: HearthError.from(thrown), what }, "it is tried again");
        this.#later(what);
      },
    );
    this.#busy.set(
      what,
      run.finally(() => {
        this.#busy.delete(what);
      }),
    );
  }

  #later(what: string): void {
    this.#notBeforeMs.set(what, this.#deps.monotonicMs() + this.#deps.limits.retryMs);
  }

  #isTooSoon(what: string): boolean {
    const atMs = this.#notBeforeMs.get(what);
    if (atMs === undefined) return false;
    if (atMs > this.#deps.monotonicMs()) return true;
    this.#notBeforeMs.delete(what);
    return false;
  }

  /** Its last move was given up a moment ago, so others come first. */
  #wasRefused(machineId: string): boolean {
    const placement = this.#deps.view.region.placement(machineId);
    if (placement?.value.state !== "stays" || placement.value.why === undefined) return false;
    const nowMs = this.#deps.monotonicMs();
    const known = this.#refused.get(machineId);
    const sinceMs = known?.revision === placement.revision ? known.sinceMs : nowMs;
    this.#refused.set(machineId, { revision: placement.revision, sinceMs });
    return nowMs - sinceMs < this.#deps.limits.retryMs;
  }

  /** Since this was first seen to be so. */
  #lasts(what: string): number {
    const nowMs = this.#deps.monotonicMs();
    const sinceMs = this.#sinceMs.get(what) ?? nowMs;
    this.#sinceMs.set(what, sinceMs);
    return nowMs - sinceMs;
  }
}
