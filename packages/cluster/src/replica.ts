/**
 * A materialised copy of the cluster state, in memory over SQLite, that answers without the network.
 *
 * A change is saved to disk, then shown in memory, then told to watchers: a reader never sees what a crash
 * could take back. Changes are saved in batches, because each commit waits for the disk. The feed is the
 * stream from the saved position; when it breaks, the loop starts again from there, for ever. Age is
 * measured against the stream's own last revision, so a quiet cluster is not mistaken for a lost one, and against
 * whether whoever says it still leads the stream.
 *
 * The stream can lose what it has acknowledged. So with each new connection the copy is compared with the stream
 * before the feed begins. What the stream has lost keeps its place here with revision 0, readable and on disk, and the
 * part of it that this process may write is put back by the rules of fact-version.ts, before anything of the new
 * stream can take its place here. Until that is done, and for a while after it, so that others can do the same, the
 * copy is not settled, and nobody should write by what it says.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { untilAborted } from "@hearth/process";
import {
  DeliverPolicy,
  type JetStreamManager,
  type JsMsg,
  jetstream,
  jetstreamManager,
} from "@nats-io/jetstream";
import { Arrivals } from "./arrivals.ts";
import type { Bus } from "./bus.ts";
import { FactShelf } from "./fact-shelf.ts";
import { readValue } from "./fact-value.ts";
import { versionOf } from "./fact-version.ts";
import type { Written } from "./facts.ts";
import { FeedCheck } from "./feed-check.ts";
import { leaderSilenceMs } from "./leader-check.ts";
import { putBackFacts } from "./put-back.ts";
import type { Arrival, ReplicaOptions, WaitOptions } from "./replica-options.ts";
import {
  type Fact,
  type FactRow,
  type ReplicaFact,
  type ReplicaPosition,
  ReplicaStore,
  type Restoration,
} from "./replica-store.ts";
import { ensureStateStream, statePrefix, stateStream, streamIdentity } from "./state-stream.ts";
import { findCut } from "./stream-check.ts";
import { until } from "./until.ts";

interface Received extends Arrival {
  readonly fact: ReplicaFact;
  readonly text: string | null;
}

/** A stream that has no leader answers nothing, also not when it has one again: it is soon asked anew. */
const askLimitMs = 1_500;
/** A copy that begins with nothing has the whole region to fetch. */
const pulledAtOnce = 2_000;

export class Replica {
  readonly #options: ReplicaOptions;
  readonly #shelf: FactShelf;
  readonly #watchers = new Set<(fact: Fact, arrival: Arrival) => void>();
  readonly #waiters = new Set<() => void>();
  readonly #stopping = new AbortController();
  #store: ReplicaStore | undefined;
  #position: ReplicaPosition = { stream: "", revision: 0, checkedAtMs: Number.NEGATIVE_INFINITY };
  #batch: Received[] = [];
  #check = new FeedCheck();
  /** Monotonic: as of when this process knows its copy to be the newest. */
  #newestAtMs = Number.NEGATIVE_INFINITY;
  readonly #arrivals = new Arrivals();
  /** By prefix: after which word of its owner older facts were forgotten last. */
  readonly #forgotten = new Map<string, string>();
  #restoration: Restoration | undefined;
  #verified: { readonly bus: Bus; readonly connections: number } | undefined;
  #settledAtMs = 0;
  #broken: { readonly error: unknown } | undefined;
  #flushing: NodeJS.Immediate | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    this.#shelf = new FactShelf(options.onDisk ?? []);
  }

  /** Reads the disk and begins to follow the stream; does not wait for the bus. */
  start(): void {
    const store = new ReplicaStore(this.#options.path, this.#options.onDisk);
    this.#store = store;
    this.#shelf.open(store);
    const saved = store.position();
    if (saved !== undefined)
      this.#position = { ...saved, checkedAtMs: saved.checkedAtMs || Number.NEGATIVE_INFINITY };
    this.#restoration = store.restoration();
    if (store.setAside !== undefined) this.#options.onSetAside?.(store.setAside);
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

  /** The last time that something was put back from this copy. */
  get restoration(): Restoration | undefined {
    return this.#restoration;
  }

  /** Which stream the revisions belong to. */
  get stream(): string {
    return this.#position.stream;
  }

  /** Whether the stream is known to have all that this copy has, and whoever else had more has had time to say so. */
  get isSettled(): boolean {
    const verified = this.#verified;
    if (verified === undefined || performance.now() < this.#settledAtMs) return false;
    return verified.bus.isConnected && verified.bus.connections === verified.connections;
  }

  /** Milliseconds since this copy was last known to be the newest; infinite when it never was. */
  get ageMs(): number {
    if (Number.isFinite(this.#newestAtMs)) return performance.now() - this.#newestAtMs;
    // By an earlier process, on a clock that may have been set since.
    return Math.max(0, Date.now() - this.#position.checkedAtMs);
  }

  /**
   * Resolves when the key has at least this revision, on disk. Throws `deadline_exceeded`, `cancelled`, and
   * `unavailable` when the stream is replaced meanwhile, after which the number means nothing.
   */
  async waitForRevision(key: string, revision: number, options: WaitOptions): Promise<void> {
    const { stream } = this.#position;
    await until(this.#waiters, options, { key, revision }, () => {
      if (stream !== "" && stream !== this.#position.stream)
        throw new HearthError("unavailable", { message: "The stream was replaced; read again." });
      return this.#position.revision >= revision || (this.#shelf.get(key)?.revision ?? 0) >= revision;
    });
  }

  /** Resolves when this write, or a later one of the key, is on disk here, on whichever stream. */
  async waitForWrite({ key, clock }: Pick<Written, "key" | "clock">, options: WaitOptions): Promise<void> {
    await until(this.#waiters, options, { key }, () => (this.#shelf.get(key)?.origin.clock ?? 0) >= clock);
  }

  /**
   * Forgets facts of one owner that are older than the revision from which on it has said again all that is so.
   * Nothing is forgotten when the owner spoke of another stream.
   */
  forget(prefix: string, said: { readonly stream: string; readonly revision: number }): void {
    if (said.stream !== this.#position.stream || this.#position.revision < said.revision) return;
    // Its next word is most often that it has said nothing again, and then there is nothing older.
    const word = `${said.stream}/${said.revision}`;
    if (this.#forgotten.get(prefix) === word) return;
    const old = this.#store?.olderThan(said.revision, prefix) ?? [];
    const gone = old.filter(({ value, revision }) => value !== undefined || revision === 0);
    if (gone.length > 0)
      this.#save(
        [],
        gone.map(({ key }) => key),
      );
    this.#forgotten.set(prefix, word);
    for (const { key } of gone) this.#shelf.delete(key);
    const { revision } = this.#position;
    for (const { key } of gone)
      this.#tell({ key, value: undefined, revision }, { isLive: false, isPutBack: false });
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
    const bus = await Promise.race([this.#options.bus, untilAborted(signal)]);
    if (bus === undefined) return;
    const { connection, connections } = bus;
    const manager = await jetstreamManager(connection, { timeout: askLimitMs });
    await ensureStateStream(manager, this.#options.streamReplicas ?? 1);
    bus.clock.see(this.#store?.clock ?? 0);
    await this.#adopt(manager, bus, signal);
    this.#arrivals.beginAt((await manager.streams.info(stateStream)).state.last_seq);
    const consumer = await jetstream(connection, { timeout: askLimitMs }).consumers.get(stateStream, {
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#position.revision + 1,
    });
    this.#broken = undefined;
    const messages = await consumer.consume({
      max_messages: pulledAtOnce,
      // What comes over a new connection is of a stream that has not been looked at.
      callback: (message) => {
        if (bus.connections === connections) this.#receive(message, bus);
      },
    });
    const throwIfElsewhere = (): void => {
      if (bus.connections !== connections)
        throw new HearthError("unavailable", { message: "Connected anew." });
    };
    throwIfElsewhere();
    this.#verified = { bus, connections };
    this.#check = new FeedCheck();
    try {
      while (!signal.aborted) {
        this.#throwIfBroken();
        const askedAtMs = performance.now();
        // What comes while the stream is asked may be beyond what it answers.
        const { revision } = this.#position;
        const info = await manager.streams.info(stateStream);
        throwIfElsewhere();
        const { state } = info;
        if (streamIdentity(info) !== this.#position.stream || state.last_seq < revision)
          throw new HearthError("unavailable", { message: "Another stream, or one that has lost its end." });
        this.#arrivals.confirm(state.last_seq);
        if (!this.#check.look(askedAtMs - leaderSilenceMs(info), state.last_seq, this.#position.revision))
          throw new HearthError("unavailable", { message: "The feed of the state stands still." });
        this.#noteAge();
        await delay(this.#options.checkMs ?? 1_000, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      this.#verified = undefined;
      messages.stop();
    }
  }

  /** Finds what the stream has lost, and puts back what this process may write of it. */
  async #adopt(manager: JetStreamManager, bus: Bus, signal: AbortSignal): Promise<void> {
    const info = await manager.streams.info(stateStream);
    const { state } = info;
    const stream = streamIdentity(info);
    const known = this.#position;
    const isReplaced = known.stream !== stream;
    const cut = isReplaced
      ? 0
      : await findCut(manager, (from, count) => this.#store?.newest(from, count) ?? [], known);
    if (isReplaced) this.#arrivals.follow(state.last_seq, { isAnother: known.stream !== "" });
    if (cut !== undefined) this.#lose(stream, cut);
    if (cut !== undefined && known.stream !== "") {
      bus.clock.jump();
      this.#settledAtMs = performance.now() + (this.#options.settleMs ?? 2_000);
    }
    let lost = 0;
    const own: ReplicaFact[] = [];
    for (const fact of this.#store?.lost() ?? []) {
      lost += 1;
      if (this.#options.restores?.(fact.key) === true) own.push(fact);
    }
    if (cut === undefined && lost === 0) return;
    const client = manager.jetstream();
    const restored = await putBackFacts({ client, manager, stream }, own, signal);
    if (signal.aborted) return;
    const kind = isReplaced ? "replaced" : "shortened";
    const counts = { lost, restored: restored.length, overtaken: own.length - restored.length };
    if (restored.length > 0) {
      this.#restoration = { atMs: Date.now(), restored: restored.length };
      this.#store?.noteRestoration(this.#restoration);
    }
    if (known.stream !== "" && cut !== undefined) this.#options.onStreamLoss?.({ kind, ...counts });
    if (this.#store?.setAside !== undefined && state.messages === 0 && known.stream === "")
      this.#options.onError?.(
        new HearthError("internal", {
          message: "The stream is empty too: nobody else has what the file held.",
        }),
      );
  }

  /** What is not in the stream stays readable, with revision 0, so that any message of the stream replaces it. */
  #lose(stream: string, cut: number): void {
    const before = this.#position;
    this.#position = { stream, revision: cut, checkedAtMs: before.checkedAtMs };
    try {
      this.#store?.lose(cut, this.#savedPosition());
    } catch (error) {
      this.#position = before;
      throw error;
    }
    this.#shelf.lose(cut);
    this.#forgotten.clear();
    for (const waiter of [...this.#waiters]) waiter();
  }

  #receive(message: JsMsg, bus: Bus): void {
    const last = this.#batch.at(-1)?.fact.revision ?? this.#position.revision;
    if (message.seq <= last || this.#broken !== undefined || this.#stopping.signal.aborted) return;
    const key = message.subject.slice(statePrefix.length);
    const { stream, revision, clock } = versionOf(message, this.#position.stream);
    bus.clock.see(clock);
    const { text, value } = readValue(message, this.#options.onError);
    const fact = { key, value, revision: message.seq, origin: { stream, revision, clock } };
    const kind = this.#arrivals.kindOf({ sequence: message.seq, stream, revision }, this.#position.stream);
    this.#batch.push({ fact, text, ...kind });
    this.#flushing ??= setImmediate(() => this.#flush());
  }

  #noteAge(): void {
    const atMs = this.#check.passed(this.#position.revision);
    if (atMs === undefined || atMs <= this.#newestAtMs) return;
    this.#newestAtMs = atMs;
    this.#position = { ...this.#position, checkedAtMs: Date.now() - (performance.now() - atMs) };
  }

  #throwIfBroken(): void {
    if (this.#broken !== undefined) throw this.#broken.error;
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
      this.#save(batch.map(({ fact: { key, revision, origin }, text }) => ({ key, text, revision, origin })));
    } catch (error) {
      // A full disk, say. What is not on disk is not shown; the feed starts again from what is.
      this.#position = before;
      this.#broken = { error };
      return;
    }
    this.#noteAge();
    for (const { fact } of batch) this.#shelf.put(fact);
    for (const { fact, ...arrival } of batch) this.#tell(fact, arrival);
    for (const waiter of [...this.#waiters]) waiter();
  }

  #tell(fact: Fact, arrival: Arrival): void {
    for (const watcher of this.#watchers) watcher(fact, arrival);
  }

  #save(rows: readonly FactRow[], forgotten: readonly string[] = []): void {
    this.#store?.save(rows, this.#savedPosition(), forgotten);
  }

  #savedPosition(): ReplicaPosition {
    const { checkedAtMs } = this.#position;
    return { ...this.#position, checkedAtMs: Number.isFinite(checkedAtMs) ? checkedAtMs : 0 };
  }
}
