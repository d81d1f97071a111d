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
import { FactShelf } from "./fact-shelf.ts";
import { ensureStateStream, statePrefix, stateStream, tombstoneHeader } from "./facts.ts";
import { type Fact, type FactRow, type ReplicaPosition, ReplicaStore } from "./replica-store.ts";

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
  /** Prefixes, each with its dot, whose values are read from the disk when they are asked for. */
  readonly onDisk?: readonly string[];
  /** Prefixes whose owners publish them again by themselves; they are not among the `lost`. */
  readonly putBackByOwner?: readonly string[];
  /** The stream is not the one this copy came from; `lost` are the facts that only this copy has. */
  readonly onStreamReplaced?: (lost: readonly Fact[]) => void;
}

/** What came with a change besides the fact. */
export interface Arrival {
  /** It was published while this copy followed, and is not what had piled up while it did not. */
  readonly isLive: boolean;
}

interface Received extends Arrival {
  readonly fact: Fact;
  readonly text: string | null;
}

/** A feed that was not confirmed for so long may bring what is old. */
const liveLimitMs = 5_000;
/** A copy that begins with nothing has the whole region to fetch. */
const pulledAtOnce = 2_000;

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export class Replica {
  readonly #options: ReplicaOptions;
  readonly #shelf: FactShelf;
  readonly #watchers = new Set<(fact: Fact, arrival: Arrival) => void>();
  readonly #waiters = new Set<() => void>();
  readonly #stopping = new AbortController();
  #store: ReplicaStore | undefined;
  #position: ReplicaPosition = { stream: "", revision: 0, checkedAtMs: Number.NEGATIVE_INFINITY };
  #batch: Received[] = [];
  /** What the stream has beyond this revision was published while this copy followed. */
  #liveAfter = Number.POSITIVE_INFINITY;
  /** Monotonic: when the stream last answered. */
  #confirmedAtMs = Number.NEGATIVE_INFINITY;
  #broken: { readonly error: unknown } | undefined;
  #flushing: NodeJS.Immediate | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    this.#shelf = new FactShelf(options.onDisk ?? []);
  }

  /** Reads the disk and begins to follow the stream; does not wait for the bus. */
  start(): void {
    const store = new ReplicaStore(this.#options.path);
    this.#store = store;
    this.#shelf.open(store);
    this.#position = store.position() ?? this.#position;
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
    this.#flush();
    this.#shelf.close();
    this.#store?.close();
    this.#store = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  get(key: string): Fact | undefined {
    const fact = this.#shelf.get(key);
    return fact?.value === undefined ? undefined : fact;
  }

  /** Facts whose key starts with the prefix, by key. */
  list(prefix: string): Fact[] {
    return this.#shelf.list(prefix);
  }

  /** The same in no order, and one after another where the prefix is one of `onDisk`. Not across an `await`. */
  scan(prefix: string): Iterable<Fact> {
    return this.#shelf.scan(prefix);
  }

  /** Every change from now on under the prefix; a deletion has no value. A watcher must not throw. */
  watch(prefix: string, onChange: (fact: Fact, arrival: Arrival) => void): Disposable {
    const watcher = (fact: Fact, arrival: Arrival): void => {
      if (fact.key.startsWith(prefix)) onChange(fact, arrival);
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
      this.#position.revision >= revision || (this.#shelf.get(key)?.revision ?? 0) >= revision;
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
    this.#adopt(info.created, info.state.last_seq);
    this.#confirm(info.state.last_seq, { isAfterGap: true });
    const consumer = await jetstream(connection).consumers.get(stateStream, {
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#position.revision + 1,
    });
    this.#broken = undefined;
    const messages = await consumer.consume({
      max_messages: pulledAtOnce,
      callback: (message) => this.#receive(message),
    });
    try {
      let stalledAt = -1;
      while (!signal.aborted) {
        this.#throwIfBroken();
        const askedAtMs = Date.now();
        const { state, created } = await manager.streams.info(stateStream);
        if (created !== this.#position.stream)
          throw new HearthError("unavailable", { message: "Another stream." });
        this.#confirm(state.last_seq, { isAfterGap: !this.#isConfirmed() });
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
      known.stream === "" || this.#options.onStreamReplaced === undefined
        ? []
        : [...(this.#store?.facts(this.#options.putBackByOwner) ?? [])].filter(
            ({ value }) => value !== undefined,
          );
    // The facts stay readable; revision 0 lets any message of the new stream replace them.
    this.#position = { stream, revision: 0, checkedAtMs: known.checkedAtMs };
    this.#shelf.forgetRevisions();
    this.#save([]);
    if (lost.length > 0) this.#options.onStreamReplaced?.(lost);
  }

  #confirm(lastRevision: number, { isAfterGap }: { readonly isAfterGap: boolean }): void {
    if (isAfterGap) this.#liveAfter = lastRevision;
    this.#confirmedAtMs = performance.now();
  }

  #isConfirmed(): boolean {
    return performance.now() - this.#confirmedAtMs <= liveLimitMs;
  }

  #receive(message: JsMsg): void {
    const last = this.#batch.at(-1)?.fact.revision ?? this.#position.revision;
    if (message.seq <= last || this.#broken !== undefined || this.#stopping.signal.aborted) return;
    const key = message.subject.slice(statePrefix.length);
    const isLive = message.seq > this.#liveAfter && this.#isConfirmed();
    this.#batch.push({ ...this.#read(key, message), isLive });
    this.#flushing ??= setImmediate(() => this.#flush());
  }

  #throwIfBroken(): void {
    if (this.#broken !== undefined) throw this.#broken.error;
  }

  /** A value that cannot be read counts as none: one bad writer must not stop every replica for ever. */
  #read(key: string, message: JsMsg): { readonly fact: Fact; readonly text: string | null } {
    const revision = message.seq;
    const none = { fact: { key, value: undefined, revision }, text: null };
    if (message.headers?.has(tombstoneHeader)) return none;
    try {
      const text = message.string();
      return { fact: { key, value: JSON.parse(text), revision }, text };
    } catch (error) {
      this.#options.onError?.(error);
      return none;
    }
  }

  #flush(): void {
    clearImmediate(this.#flushing);
    this.#flushing = undefined;
    const batch = this.#batch;
    const last = batch.at(-1)?.fact;
    if (last === undefined) return;
    this.#batch = [];
    const before = this.#position;
    this.#position = { ...before, revision: last.revision };
    try {
      this.#save(batch.map(({ fact: { key, revision }, text }) => ({ key, text, revision })));
    } catch (error) {
      // A full disk, say. What is not on disk is not shown; the feed starts again from what is.
      this.#position = before;
      this.#broken = { error };
      return;
    }
    for (const { fact } of batch) this.#shelf.put(fact);
    for (const { fact, isLive } of batch) for (const watcher of this.#watchers) watcher(fact, { isLive });
    for (const waiter of [...this.#waiters]) waiter();
  }

  #save(rows: readonly FactRow[]): void {
    const { checkedAtMs } = this.#position;
    this.#store?.save(rows, {
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
