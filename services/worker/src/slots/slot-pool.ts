/**
 * Network slots that are ready before anybody asks: a claim takes one, and another is made in the background.
 *
 * Each slot is in the ledger from before it exists until after it is gone. Its owner says what it is: being made,
 * of the pool, or of a machine. So a worker that starts finds the pool of the one before it, and what that one had
 * not finished is deleted. A slot that was a machine's never comes back: it is deleted, and a new one made.
 */
import { HearthError } from "@hearth/errors";
import { type NetworkExecutor, newSlotName, planSlotBuild, planUnclaimedTeardown } from "@hearth/network";
import { BackgroundLoop } from "@hearth/process";
import type { Logger } from "@hearth/telemetry";
import { crashPoint } from "../journal/crash-point.ts";
import type { Ledger } from "../journal/ledger.ts";
import type { Clock } from "../worker-deps.ts";

/** Owners of slots that are no machine's; ids of machines are hexadecimal. */
export const slotOwners = { pool: "pool", making: "pool-making" } as const;
export const slotKind = "slot";

export interface SlotPoolDeps {
  readonly nodeId: string;
  readonly ledger: Ledger;
  readonly network: Pick<NetworkExecutor, "buildSlot" | "hasSlot" | "removeSlot">;
  /** The user that VMMs run as. */
  readonly ownerUid: number;
  /** Slots that are kept ready. */
  readonly size: number;
  readonly clock: Clock;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly logger: Logger;
}

const refillAfterMs = 100;
const firstRetryMs = 500;
const longestRetryMs = 30_000;
const tidyEveryMs = 30_000;

export class SlotPool {
  readonly #deps: SlotPoolDeps;
  readonly #loop = new BackgroundLoop((signal) => this.#run(signal));
  readonly #making = new Map<string, Promise<void>>();
  #woken = Promise.withResolvers<void>();
  #draining = false;

  constructor(deps: SlotPoolDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#loop.start();
  }

  /** Lets go: what is ready stays for the next worker. */
  async stop(): Promise<void> {
    const ended = this.#loop.stop();
    this.#wake();
    await ended;
    await Promise.allSettled(this.#making.values());
  }

  /** A slot for a machine; made when none is ready. @throws HearthError what the host says */
  async claim(machineId: string, signal: AbortSignal): Promise<string> {
    const { ledger, network } = this.#deps;
    for (;;) {
      signal.throwIfAborted();
      const slot = ledger.take({ kind: slotKind, from: slotOwners.pool, to: machineId });
      this.#wake();
      if (slot === undefined) await this.#make(signal);
      else if (await network.hasSlot(slot, signal)) return slot;
      else await this.#discard(slot, machineId);
    }
  }

  /** Deletes what is ready, and makes nothing any more. @throws HearthError what the host says */
  async drain(): Promise<void> {
    this.#draining = true;
    await Promise.allSettled(this.#making.values());
    await this.#tidy(true);
  }

  resume(): void {
    this.#draining = false;
    this.#wake();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#deps;
    let retryMs = firstRetryMs;
    while (!signal.aborted) {
      this.#woken = Promise.withResolvers();
      try {
        await this.#tidy(false);
        while (!signal.aborted && this.#wanted) await this.#make(signal);
        retryMs = firstRetryMs;
        await this.#rest();
        // Making a slot holds locks of the kernel that giving one an identity needs, so claims come first.
        await clock.sleep(refillAfterMs, signal).catch(() => undefined);
      } catch (error) {
        if (signal.aborted) return;
        logger.warn({ err: error }, "a network slot could not be made ready");
        await clock.sleep(retryMs, signal).catch(() => undefined);
        retryMs = Math.min(retryMs * 2, longestRetryMs);
      }
    }
  }

  /** Until a claim, or until it is time to look what became of the slots that are ready, and of those that would not go. */
  async #rest(): Promise<void> {
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.#loop.signal]);
    const look = this.#deps.clock.sleep(tidyEveryMs, signal).catch(() => undefined);
    await Promise.race([this.#woken.promise, look]);
    over.abort();
  }

  get #wanted(): boolean {
    const { ledger, size } = this.#deps;
    return !this.#draining && ledger.ofMachine(slotOwners.pool).length < size;
  }

  #wake(): void {
    this.#woken.resolve();
  }

  /** Deletes what an earlier worker did not finish, and what is not on the host any more; or everything. */
  async #tidy(everything: boolean): Promise<void> {
    const { ledger, network } = this.#deps;
    // Told apart before anything is waited for: what is being made now may be a machine's by then.
    const unfinished = ledger.ofMachine(slotOwners.making).filter(({ key }) => !this.#making.has(key));
    for (const { key } of unfinished) await this.#discard(key, slotOwners.making);
    for (const { key } of ledger.ofMachine(slotOwners.pool)) {
      if (!everything && (await network.hasSlot(key))) continue;
      // Nobody can claim it from here on, whatever becomes of its removal.
      if (ledger.hand({ kind: slotKind, key, from: slotOwners.pool, to: slotOwners.making }))
        await this.#discard(key, slotOwners.making);
    }
  }

  async #make(signal: AbortSignal): Promise<void> {
    if (this.#draining) throw new HearthError("unavailable", { message: "The node is being taken down." });
    const slot = newSlotName(this.#deps.nodeId, this.#deps.randomBytes);
    const made = this.#build(slot, signal);
    this.#making.set(slot, made);
    try {
      await made;
    } finally {
      this.#making.delete(slot);
    }
  }

  async #build(slot: string, signal: AbortSignal): Promise<void> {
    const { nodeId, ledger, network, ownerUid } = this.#deps;
    ledger.claim({ kind: slotKind, key: slot, machineId: slotOwners.making });
    try {
      crashPoint("make slot", "before");
      await network.buildSlot(planSlotBuild({ node: nodeId, slot, ownerUid }), signal);
      crashPoint("make slot", "after");
      ledger.hand({ kind: slotKind, key: slot, from: slotOwners.making, to: slotOwners.pool });
    } catch (error) {
      // What does not go now is tried again; whoever waits is told why there is no slot.
      await this.#discard(slot, slotOwners.making).catch(() => this.#wake());
      throw error;
    }
  }

  async #discard(slot: string, owner: string): Promise<void> {
    const { nodeId, ledger, network } = this.#deps;
    crashPoint("discard slot", "before");
    await network.removeSlot(planUnclaimedTeardown(nodeId, slot));
    crashPoint("discard slot", "after");
    ledger.release({ kind: slotKind, key: slot, machineId: owner });
  }
}
