/**
 * Follows the facts under one prefix for a service that keeps no copy of the state: what is there first, then each
 * change. Each connection begins anew with what is there, and so does each turn of a few minutes, so that no loss of
 * the stream or of a message lasts. The same fact is therefore told more than once, and a deletion that happened
 * meanwhile is not told: who listens must be able to take both.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { BackgroundLoop } from "@hearth/process";
import { DeliverPolicy, jetstream } from "@nats-io/jetstream";
import type { Bus } from "./bus.ts";
import { readValue } from "./fact-value.ts";
import type { Fact } from "./replica-store.ts";
import { statePrefix, stateStream } from "./state-stream.ts";

export interface FactWatchOptions {
  readonly bus: Bus;
  /** Ends with a dot. */
  readonly prefix: string;
  /** A deletion has no value. Must not throw. */
  readonly onFact: (fact: Fact) => void;
  readonly onError?: (error: unknown) => void;
  readonly retryMs?: number;
  /** How long one turn lasts. */
  readonly turnMs?: number;
  /** How soon a new connection is noticed. */
  readonly lookMs?: number;
}

const askLimitMs = 5_000;

export class FactWatch {
  readonly #options: FactWatchOptions;
  readonly #loop = new BackgroundLoop((signal) => this.#run(signal));

  constructor(options: FactWatchOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { onError, retryMs = 2_000 } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#turn(signal);
      } catch (error) {
        if (signal.aborted) return;
        onError?.(error);
        await delay(retryMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { bus, prefix, onFact, onError, turnMs = 120_000, lookMs = 1_000 } = this.#options;
    const { connection, connections } = bus;
    const isSame = (): boolean => bus.isConnected && bus.connections === connections;
    const consumer = await jetstream(connection, { timeout: askLimitMs }).consumers.get(stateStream, {
      deliver_policy: DeliverPolicy.LastPerSubject,
      filter_subjects: `${statePrefix}${prefix}>`,
    });
    let broken: unknown;
    const messages = await consumer.consume({
      callback: (message) => {
        if (!isSame() || signal.aborted) return;
        const { value } = readValue(message, onError);
        onFact({ key: message.subject.slice(statePrefix.length), value, revision: message.seq });
      },
    });
    void messages.closed().then((error) => {
      broken = error ?? new HearthError("unavailable", { message: "The feed of facts ended." });
    });
    const endsAtMs = performance.now() + turnMs;
    try {
      while (isSame() && broken === undefined && performance.now() < endsAtMs)
        await delay(lookMs, undefined, { signal });
    } finally {
      messages.stop();
    }
    if (broken !== undefined) throw broken;
    if (!isSame()) throw new HearthError("unavailable", { message: "Connected anew." });
  }
}
