/**
 * A materialised copy of the cluster state, in memory over SQLite, that answers without the network.
 *
 * A change is saved to disk, then shown in memory, then told to watchers: a reader never sees what a crash
 * could take back. Changes are saved in batches, because each commit waits for the disk. The feed is the
 * stream from the saved position; when it breaks, the loop starts again from there, for ever. Age is
 * measured against the stream's own last revision, so a quiet cluster is not mistaken for a lost one.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { DeliverPolicy, type JsMsg, jetstream, jetstreamManager } from "@nats-io/jetstream";
import type { Bus } from "./bus.ts";
import { ensureStateStream, statePrefix, stateStream, streamIdentity, tombstoneHeader } from "./facts.ts";
import { type Fact, type ReplicaPosition, ReplicaStore } from "./replica-store.ts";

export interface ReplicaOptions {
  /** A promise when the service starts with the bus down; see `retryUntil` of `connectBus`. */
  readonly bus: Bus | Promise<Bus>;
  /** The SQLite file. */
  readonly path: string;
  /** Copies of the stream, if this replica has to make it. */
  readonly streamReplicas?: number;
  readonly retryMs?: number;
  /** How often the copy is compared with the stream's last revision. */
  readonly checkMs?: number;
  readonly onError?: (error: unknown) => void;
  /** The stream is not the one this copy came from; `lost` are the facts that only this copy has. */
  readonly onStreamReplaced?: (lost: readonly Fact[]) => void;
}

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export class Replica {
  readonly #options: ReplicaOptions;
  readonly #facts = new Map<string, Fact>();
  readonly #watchers = new Set<(fact: Fact) => void>();
  readonly #waiters = new Set<() => void>();
  readonly #stopping = new AbortController();
  #store: ReplicaStore | undefined;
  #position: ReplicaPosition = { stream: "", revision: 0, checkedAtMs: Number.NEGATIVE_INFINITY };
  #batch: Fact[] = [];
  #broken: { readonly error: unknown } | undefined;
  #flushing: NodeJS.Immediate | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: ReplicaOptions) {
    this.#options = options;
  }

  /** Reads the disk and begins to follow the stream; does not wait for the bus. */
  start(): void {
    const store = new ReplicaStore(this.#options.path);
    this.#store = store;
    for (const fact of store.facts()) this.#facts.set(fact.key, fact);
    this.#position = store.position() ?? this.#position;
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
    this.#flush();
    this.#store?.close();
    this.#store = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  get(key: string): Fact | undefined {
    const fact = this.#facts.get(key);
    return fact?.value === undefined ? undefined : fact;
  }

  /** Facts whose key starts with the prefix, by key. */
  list(prefix: string): Fact[] {
    const found = [...this.#facts.values()].filter(
      (fact) => fact.key.startsWith(prefix) && fact.value !== undefined,
    );
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Every change from now on under the prefix; a deletion has no value. A watcher must not throw. */
  watch(prefix: string, onChange: (fact: Fact) => void): Disposable {
    const watcher = (fact: Fact): void => {
      if (fact.key.startsWith(prefix)) onChange(fact);
    };
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  /** Every change up to this revision is in this copy, and on its disk. */
  get revision(): number {
    return this.#position.revision;
  }

  /** Milliseconds since this copy was last known to be the newest; infinite when it never was. */
  get ageMs(): number {
    return Math.max(0, Date.now() - this.#position.checkedAtMs);
  }

  /** Resolves when the key has at least this revision, on disk. Throws `deadline_exceeded`, `cancelled`. */
  async waitForRevision(key: string, revision: number, options: WaitOptions): Promise<void> {
    const reached = (): boolean =>
      (this.#facts.get(key)?.revision ?? 0) >= revision || this.#position.revision >= revision;
    if (reached()) return;
    await new Promise<void>((resolve, reject) => {
      const settle = (done: () => void): void => {
        clearTimeout(timer);
        options.signal?.removeEventListener("abort", aborted);
        this.#waiters.delete(look);
        done();
      };
      const look = (): void => {
        if (reached()) settle(resolve);
      };
      const aborted = (): void =>
        settle(() => reject(new HearthError("cancelled", { cause: options.signal?.reason })));
      const timer = setTimeout(
        () => settle(() => reject(new HearthError("deadline_exceeded", { details: { key, revision } }))),
        options.timeoutMs,
      );
      this.#waiters.add(look);
      if (options.signal?.aborted) aborted();
      else options.signal?.addEventListener("abort", aborted, { once: true });
    });
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#follow(signal);
      } catch (error) {
        this.#options.onError?.(error);
      }
      await delay(this.#options.retryMs ?? 500, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Returns when stopping; throws when the feed is broken or stands still. */
  async #follow(signal: AbortSignal): Promise<void> {
    const bus = await Promise.race([this.#options.bus, once(signal)]);
    if (bus === undefined) return;
    const { connection } = bus;
    const manager = await jetstreamManager(connection, { timeout: 2_000 });
    await ensureStateStream(manager, this.#options.streamReplicas ?? 1);
    const info = await manager.streams.info(stateStream);
    this.#adopt(streamIdentity(info), info.state.last_seq);
    const consumer = await jetstream(connection).consumers.get(stateStream, {
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#position.revision + 1,
    });
    this.#broken = undefined;
    const messages = await consumer.consume({ callback: (message) => this.#receive(message) });
    try {
      let stalledAt = -1;
      while (!signal.aborted) {
        this.#throwIfBroken();
        const askedAtMs = Date.now();
        const now = await manager.streams.info(stateStream);
        const { state } = now;
        if (streamIdentity(now) !== this.#position.stream)
          throw new HearthError("unavailable", { message: "Another stream." });
        if (state.last_seq <= this.#position.revision) {
          this.#position = { ...this.#position, checkedAtMs: askedAtMs };
          stalledAt = -1;
        } else if (stalledAt === this.#position.revision) {
          throw new HearthError("unavailable", { message: "The feed of the state stands still." });
        } else {
          stalledAt = this.#position.revision;
        }
        await delay(this.#options.checkMs ?? 1_000, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      messages.stop();
    }
  }

  /** Decides whether the stream is the one this copy is of; if not, revisions start anew. */
  #adopt(stream: string, lastRevision: number): void {
    const known = this.#position;
    if (known.stream === stream && known.revision <= lastRevision) return;
    const lost =
      known.stream === "" ? [] : [...this.#facts.values()].filter((fact) => fact.value !== undefined);
    // The facts stay readable; revision 0 lets any message of the new stream replace them.
    const kept = [...this.#facts.values()].map((fact) => ({ ...fact, revision: 0 }));
    this.#position = { stream, revision: 0, checkedAtMs: known.checkedAtMs };
    this.#save(kept);
    for (const fact of kept) this.#facts.set(fact.key, fact);
    if (lost.length > 0) this.#options.onStreamReplaced?.(lost);
  }

  #receive(message: JsMsg): void {
    const last = this.#batch.at(-1)?.revision ?? this.#position.revision;
    if (message.seq <= last || this.#broken !== undefined || this.#stopping.signal.aborted) return;
    const key = message.subject.slice(statePrefix.length);
    this.#batch.push({ key, value: this.#valueOf(message), revision: message.seq });
    this.#flushing ??= setImmediate(() => this.#flush());
  }

  #throwIfBroken(): void {
    if (this.#broken !== undefined) throw this.#broken.error;
  }

  /** A value that cannot be read counts as none: one bad writer must not stop every replica for ever. */
  #valueOf(message: JsMsg): unknown {
    if (message.headers?.has(tombstoneHeader)) return undefined;
    try {
      return message.json();
    } catch (error) {
      this.#options.onError?.(error);
      return undefined;
    }
  }

  #flush(): void {
    clearImmediate(this.#flushing);
    this.#flushing = undefined;
    const batch = this.#batch;
    const last = batch.at(-1);
    if (last === undefined) return;
    this.#batch = [];
    const before = this.#position;
    this.#position = { ...before, revision: last.revision };
    try {
      this.#save(batch);
    } catch (error) {
      // A full disk, say. What is not on disk is not shown; the feed starts again from what is.
      this.#position = before;
      this.#broken = { error };
      return;
    }
    for (const fact of batch) this.#facts.set(fact.key, fact);
    for (const fact of batch) for (const watcher of this.#watchers) watcher(fact);
    for (const waiter of [...this.#waiters]) waiter();
  }

  #save(facts: readonly Fact[]): void {
    const { checkedAtMs } = this.#position;
    this.#store?.save(facts, {
      ...this.#position,
      checkedAtMs: Number.isFinite(checkedAtMs) ? checkedAtMs : 0,
    });
  }
}

function once(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
}
