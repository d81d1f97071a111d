/**
 * The one writer of a machine's host side: looks at the record, does the next thing, looks again. It takes no
 * input: whoever changed the record wakes it. So a request, an exit, a timer and a worker that starts take the
 * same path, and what failed is tried again by the same look.
 */
import { HearthError } from "@hearth/errors";
import type { Logger } from "@hearth/telemetry";
import type { RunEngine } from "../journal/run-engine.ts";
import { destroyRun, downRun, type RunKind, runKinds, startRun } from "../runs/machine-runs.ts";
import { heldSlot, type RunParts } from "../runs/run-parts.ts";
import { changeEgress, isEgressStale } from "../slots/slot-egress.ts";
import { releaseStaleImages, staleHolders } from "./image-hold.ts";
import { gaveWay } from "./machine-rights.ts";
import type { MachineRow } from "./machine-row.ts";
import { type Action, nextAction } from "./next-action.ts";
import { turnAfter, turnBegun, turnPostponed } from "./scheduled-turn.ts";
import { booted, failed, settled } from "./settle.ts";

export interface ActorDeps {
  readonly parts: RunParts;
  readonly engine: RunEngine;
  readonly newRunId: () => string;
  readonly draining: () => boolean;
  /** This node has the right to run it now. */
  readonly mayRun: (row: MachineRow) => boolean;
  /** Throws insufficient_capacity when the node has no room for it. */
  readonly admit: (row: MachineRow) => void;
  readonly logger: Logger;
  /** What could not be done and will be tried again. */
  readonly onThrown: (error: unknown) => void;
  /** The row is gone; the actor ends. */
  readonly onPurged: () => Promise<void>;
  /** The host or the journal may have changed without the record. */
  readonly onActed: () => void;
}

const keptRuns = 20;
const firstRetryMs = 250;
const longestRetryMs = 30_000;
/** The host's clock may be set while a timer runs, and a timer of Node holds no more than 24 days. */
const longestPauseMs = 300_000;

export class MachineActor {
  readonly machineId: string;
  readonly #deps: ActorDeps;
  readonly #stopping = new AbortController();
  #run: AbortController | undefined;
  #wake: () => void = () => undefined;
  #loop: Promise<void> | undefined;
  #unpublished = false;
  #failures = 0;

  constructor(machineId: string, deps: ActorDeps) {
    this.machineId = machineId;
    this.#deps = deps;
  }

  start(): void {
    this.#loop ??= this.#work();
  }

  /** The record or the host may have changed. A run that this made pointless is interrupted. */
  wake(): void {
    this.#wake();
    const row = this.#deps.parts.store.find(this.machineId);
    if (this.#run !== undefined && row !== undefined && ["cancel", "give-way"].includes(this.#next(row).kind))
      this.#run.abort(new Error("no longer wanted"));
  }

  /** Lets go: a run under way stays open for the next worker. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the worker stops"));
    this.#wake();
    await this.#loop;
  }

  async #work(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      // Made before looking, so that a wake between the look and the wait is not lost.
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      let waitMs: number | undefined;
      try {
        const row = this.#deps.parts.store.find(this.machineId);
        if (row === undefined) return;
        const action = this.#next(row);
        if (action.kind !== "rest" && action.kind !== "wait") {
          await this.#act(action, row);
          this.#failures = 0;
          this.#deps.onActed();
          continue;
        }
        if (action.kind === "wait") waitMs = action.untilMs - this.#deps.parts.clock.nowMs();
      } catch (error) {
        if (signal.aborted) return;
        if (this.#run?.signal.aborted === true) continue; // interrupted, so the record says something else now
        this.#deps.onThrown(error);
        waitMs = Math.min(longestRetryMs, firstRetryMs * 2 ** this.#failures);
        this.#failures += 1;
        this.#deps.logger.error({ err: error, retry_in_ms: waitMs }, "the machine could not be taken on");
      }
      await this.#pause(woken, waitMs);
    }
  }

  async #pause(woken: Promise<void>, waitMs: number | undefined): Promise<void> {
    if (waitMs === undefined) return await woken;
    const waited = new AbortController();
    const signal = AbortSignal.any([waited.signal, this.#stopping.signal]);
    const pauseMs = Math.min(Math.max(1, waitMs), longestPauseMs);
    const slept = this.#deps.parts.clock.sleep(pauseMs, signal).catch(() => undefined);
    await Promise.race([woken, slept]);
    waited.abort();
  }

  #next(row: MachineRow): Action {
    const { parts, engine, draining, mayRun } = this.#deps;
    if (row.state !== "destroyed") this.#unpublished = false; // it came back from another node
    const live = parts.live.get(this.machineId);
    return nextAction(row, {
      nowMs: parts.clock.nowMs(),
      openRun: engine.openRunOf(this.machineId)?.kind as RunKind | undefined,
      ended: row.exit !== null || live === undefined || live.exit !== undefined,
      draining: draining(),
      mayRun: mayRun(row),
      unpublished: this.#unpublished,
      staleEgress:
        row.state === "started" && isEgressStale(row) && heldSlot(parts, row.machineId) !== undefined,
      staleImages: row.state === "started" && staleHolders(parts, row).length > 0,
      limits: parts.limits,
    });
  }

  async #act(action: Exclude<Action, { kind: "rest" | "wait" }>, row: MachineRow): Promise<void> {
    const { engine, parts } = this.#deps;
    const { store } = parts;
    switch (action.kind) {
      case "cancel": {
        const open = engine.openRunOf(this.machineId);
        if (open === undefined) return;
        engine.cancel(open.runId);
        await this.#resume(open.runId, open.kind as RunKind, row);
        return;
      }
      case "run":
        return await this.#takeOn(action.run, row);
      case "booted":
        return this.#booted();
      case "give-way":
        store.change(this.machineId, gaveWay);
        return;
      case "begin":
        store.change(this.machineId, () => ({
          set: { state: "starting", startAtMs: 0, stop: null, exit: null },
          events: [{ type: "start", source: "flyd" }],
        }));
        return;
      case "release-images":
        return await releaseStaleImages(
          parts,
          row,
          AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(parts.limits.releaseMs)]),
        );
      case "change-egress":
        return await changeEgress(
          parts,
          this.machineId,
          AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(parts.limits.releaseMs)]),
        );
      case "plan-turn":
        store.note(this.machineId, { turn: turnAfter(row, parts.clock.nowMs()) });
        return;
      case "begin-turn":
        return this.#beginTurn(row);
      case "unpublish":
        store.unpublish(this.machineId);
        this.#unpublished = true;
        return;
      case "purge":
        await this.#deps.onPurged();
        store.remove(this.machineId);
        return;
    }
  }

  async #takeOn(kind: RunKind, row: MachineRow): Promise<void> {
    const { engine, newRunId, parts, logger } = this.#deps;
    const { store, clock } = parts;
    const open = engine.openRunOf(this.machineId);
    const runId = open?.runId ?? newRunId();
    if (open === undefined) {
      engine.record({ runId, machineId: this.machineId, kind, input: { machineId: this.machineId } });
      engine.prune(this.machineId, keptRuns);
    }
    const begunMs = clock.nowMs();
    const outcome = await this.#resume(runId, kind, row);
    const tookMs = clock.nowMs() - begunMs;
    if (outcome.kind === "failed") {
      if (outcome.code === "cancelled") return;
      logger.warn({ run: kind, run_id: runId, took_ms: tookMs, ...outcome }, "run failed");
      if (kind !== runKinds.start) throw new Error(`${outcome.step}: ${outcome.code}: ${outcome.reason}`);
      store.change(this.machineId, (now) => failed(now, outcome));
      return;
    }
    logger.info({ run: kind, run_id: runId, took_ms: tookMs }, "run done");
    switch (kind) {
      case "machine-start":
        return this.#booted();
      case "machine-down":
        store.change(this.machineId, (now) => settled(now, clock.nowMs()));
        return;
      case "machine-destroy":
        store.change(this.machineId, () => ({
          set: { state: "destroyed", stop: null, exit: null, lease: null },
          events: [{ type: "destroy", source: "flyd" }],
        }));
        return;
    }
  }

  #beginTurn(row: MachineRow): void {
    const { admit, logger, parts } = this.#deps;
    const nowMs = parts.clock.nowMs();
    try {
      admit(row);
    } catch (error) {
      if (HearthError.from(error).code !== "insufficient_capacity") throw error;
      logger.warn({ err: error }, "there is no room for the machine's turn now");
      parts.store.note(this.machineId, { turn: turnPostponed(row, nowMs) });
      return;
    }
    parts.store.change(this.machineId, (now) => turnBegun(now, nowMs));
  }

  #booted(): void {
    const { store, live, clock } = this.#deps.parts;
    const { state } = store.change(this.machineId, (row) => booted(row, clock.nowMs()));
    if (state === "started") live.get(this.machineId)?.watch();
  }

  async #resume(runId: string, kind: RunKind, row: MachineRow) {
    const { engine, parts } = this.#deps;
    const run = new AbortController();
    this.#run = run;
    const definition = {
      [runKinds.start]: startRun,
      [runKinds.down]: (with_: RunParts) => downRun(with_, row),
      [runKinds.destroy]: (with_: RunParts) => destroyRun(with_, row),
    }[kind](parts);
    const outcome = await engine.resume(
      runId,
      definition,
      AbortSignal.any([run.signal, this.#stopping.signal]),
    );
    this.#run = undefined;
    return outcome;
  }
}
