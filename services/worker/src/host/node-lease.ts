/**
 * The right of this node to run machines that may be started elsewhere, as the worker keeps it.
 *
 * It is renewed by compare-and-set and counts from the moment at which the last acknowledged renewal was sent, on
 * the host's own clock since its boot, which goes on while the host sleeps and which nobody sets. `held` looks at
 * that clock each time, so a worker that was stopped and goes on has no right that is over. The same moment is in a
 * file, from which the guard of each VMM reads it: they need no worker.
 *
 * A right that was over is not taken up again before every machine of its kind was told to go down: what a guard
 * ended meanwhile must not look like an end of the machine's own.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { FactStore, LeaseLimits } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { factKeys, type LeaseFact } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { Clock } from "../worker-deps.ts";

export type MovedMachines = NonNullable<LeaseFact["moved"]>;

export interface NodeLeaseDeps {
  readonly nodeId: string;
  readonly facts: Pick<FactStore, "read" | "compareAndSet">;
  readonly limits: LeaseLimits;
  /** Of the file that guards read. */
  readonly path: string;
  /** Milliseconds since the host booted, those included in which it slept. */
  readonly bootMs: () => number;
  readonly clock: Pick<Clock, "sleep">;
  readonly logger: Logger;
  /** Tells each machine that needs the lease to go down; when it returns, that is on the disk. */
  readonly lapse: () => void;
  /** Resolves when none of those machines runs on this host. */
  readonly down: (signal: AbortSignal) => Promise<void>;
  /** Whether this node ever had a lease, and that it has: on the disk. */
  readonly hadLease: () => boolean;
  readonly gotLease: () => void;
  /** Machines that need the lease. */
  readonly asks: () => readonly string[];
  /** These belong to other nodes now; when it returns, that is on the disk. */
  readonly forget: (moved: MovedMachines) => void;
  readonly onHeld: () => void;
}

type Seen = { readonly value: LeaseFact | undefined; readonly revision: number };

const expiryLookMs = 250;
const downLimitMs = 60_000;
const attempts = 3;

export class NodeLease {
  readonly #deps: NodeLeaseDeps;
  readonly #stopping = new AbortController();
  #untilMs = 0;
  #lapsed = true;
  #seen: Seen | undefined;
  #state: LeaseFact["state"] | undefined;
  #loops: Promise<void>[] = [];

  constructor(deps: NodeLeaseDeps) {
    this.#deps = deps;
  }

  get held(): boolean {
    return !this.#lapsed && this.#deps.bootMs() < this.#untilMs;
  }

  /** What this node last saw of its lease, for people. */
  get problem(): string | undefined {
    if (this.#state === "removed")
      return "This node was removed from the region; join it again under a new identity.";
    if (this.#state === "fenced" || this.#state === "returning")
      return "The region gave this node up and it is on its way back; machines that may run elsewhere wait.";
    return undefined;
  }

  /** @param sameBoot whether the file is of this boot of the host: a moment of another says nothing */
  start(sameBoot: boolean): void {
    mkdirSync(dirname(this.#deps.path), { recursive: true });
    const untilMs = sameBoot ? readMoment(this.#deps.path) : 0;
    if (this.#deps.bootMs() < untilMs) {
      this.#untilMs = untilMs;
      this.#lapsed = false;
    } else this.#end();
    this.#loops = [this.#renewLoop(), this.#expiryLoop()];
  }

  /** The lease is left to run out: the next worker goes on with what is left of it. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#loops);
  }

  async #renewLoop(): Promise<void> {
    const { limits, logger, clock } = this.#deps;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        for (let attempt = 1; attempt <= attempts && !(await this.#renew()); attempt += 1);
      } catch (error) {
        this.#seen = undefined;
        if (!signal.aborted) logger.warn({ err: error }, "the node's lease could not be renewed");
      }
      await clock.sleep(limits.renew_ms, signal).catch(() => undefined);
    }
  }

  async #expiryLoop(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      if (!this.#lapsed && !this.held) {
        this.#deps.logger.error({}, "the node's lease is over; machines that may run elsewhere are ended");
        this.#end();
      }
      await this.#deps.clock.sleep(expiryLookMs, signal).catch(() => undefined);
    }
  }

  /** Answers whether there is nothing more to do now. */
  async #renew(): Promise<boolean> {
    const { facts, nodeId, limits } = this.#deps;
    this.#seen ??= ((await this.#soon(facts.read(factKeys.lease(nodeId)))) as Seen | undefined) ?? {
      value: undefined,
      revision: 0,
    };
    const known = this.#seen.value;
    this.#state = known?.state;
    const next = { node_id: nodeId, ttl_ms: limits.ttl_ms };
    switch (known?.state) {
      case "fenced":
        this.#end();
        await this.#deps.down(AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(downLimitMs)]));
        await this.#write({ ...next, term: known.term, state: "returning", asks: this.#deps.asks() });
        return true;
      case "returning":
      case "removed":
        this.#end();
        this.#seen = undefined; // the region has the next word
        return true;
      default: {
        // What the stream has lost, the API puts back; and if it does not, it has to say what became of machines.
        if (known === undefined && this.#deps.hadLease()) {
          if (this.held) {
            this.#seen = undefined;
            return true;
          }
          this.#end();
          await this.#deps.down(AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(downLimitMs)]));
          await this.#write({ ...next, term: 0, state: "returning", asks: this.#deps.asks() });
          return true;
        }
        if (known?.moved !== undefined) this.#deps.forget(known.moved);
        const sentMs = this.#deps.bootMs();
        if (!(await this.#write({ ...next, term: known?.term ?? 0, state: "held" }))) return false;
        this.#deps.gotLease();
        this.#extend(sentMs + limits.ttl_ms);
        return true;
      }
    }
  }

  async #write(value: LeaseFact): Promise<boolean> {
    const seen = this.#seen;
    this.#seen = undefined; // until it is acknowledged, nobody knows what the stream has
    try {
      const key = factKeys.lease(value.node_id);
      const revision = await this.#soon(this.#deps.facts.compareAndSet(key, value, seen?.revision ?? 0));
      this.#seen = { value, revision };
      this.#state = value.state;
      return true;
    } catch (error) {
      if (HearthError.from(error).code !== "conflict") throw error;
      return false;
    }
  }

  /** An answer that does not come is asked for again while the lease still has time. */
  async #soon<T>(work: Promise<T>): Promise<T> {
    const waited = new AbortController();
    const limitMs = this.#deps.limits.ttl_ms / 3;
    const late = this.#deps.clock.sleep(limitMs, waited.signal).then(() => {
      throw new HearthError("deadline_exceeded");
    });
    late.catch(() => undefined);
    work.catch(() => undefined);
    try {
      return await Promise.race([work, late]);
    } finally {
      waited.abort();
    }
  }

  #extend(untilMs: number): void {
    if (this.#deps.bootMs() >= untilMs) return; // the answer came too late to be worth anything
    const wasHeld = this.held;
    if (!wasHeld) this.#deps.lapse();
    this.#untilMs = untilMs;
    writeMoment(this.#deps.path, untilMs);
    this.#lapsed = false;
    if (!wasHeld) this.#deps.onHeld();
  }

  #end(): void {
    this.#lapsed = true;
    this.#untilMs = 0;
    writeMoment(this.#deps.path, 0);
    this.#deps.lapse();
  }
}

function readMoment(path: string): number {
  try {
    const moment = Number(readFileSync(path, "utf8"));
    return Number.isFinite(moment) ? moment : 0;
  } catch {
    return 0;
  }
}

/** Whole or not at all: a guard may read it at any moment. */
function writeMoment(path: string, moment: number): void {
  writeFileSync(`${path}.new`, `${Math.floor(moment)}\n`);
  renameSync(`${path}.new`, path);
}
