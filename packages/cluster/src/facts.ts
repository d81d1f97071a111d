/**
 * Cluster state: one current value a key, in the JetStream stream HEARTH_STATE, subjects `state.<key>`.
 *
 * The stream keeps one message a subject, so its sequence is the revision of the key, and one consumer of
 * the stream is a feed of the whole state. Compare-and-set is the server's own check of the last sequence
 * of the subject, and of a message id where that is not enough (conditional-write.ts). A deletion is a message too (a
 * tombstone): a replica that was away must learn of it.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import {
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
} from "@nats-io/jetstream";
import type { Bus } from "./bus.ts";
import { writeIf } from "./conditional-write.ts";
import { type StoredVersion, tombstoneHeader, versionOf, writeHeaders } from "./fact-version.ts";
import {
  ensureStateStream,
  factError,
  messageOf,
  noMessageFound,
  statePrefix,
  stateStream,
  storedMessage,
  streamIdentity,
  streamNotFound,
} from "./state-stream.ts";
import { assertKey } from "./subjects.ts";

export interface FactStoreOptions {
  readonly bus: Bus;
  /** Copies of the state in the NATS cluster: 1 on one box, 3 in a fleet. */
  readonly replicas?: number;
  readonly timeoutMs?: number;
}

export interface PublishOptions {
  /** The same id within two minutes is stored once. */
  readonly messageId?: string;
}

/** A write that JetStream has acknowledged. */
export interface Written {
  readonly key: string;
  readonly revision: number;
  /** Names the write whatever becomes of the stream; a later write of the key has a higher one. */
  readonly clock: number;
}

/** So often another writer may be first, before a write without a condition gives up. */
const mostOvertaken = 5;
const overtakenWaitMs = 5;

/** Writes facts. `start` makes the stream when there is none. Errors: `unavailable`, `deadline_exceeded`. */
export class FactStore {
  readonly #options: FactStoreOptions;
  readonly #timeoutMs: number;
  #client: { readonly client: JetStreamClient; readonly manager: JetStreamManager } | undefined;
  #lastPublished: Written | undefined;
  /** The bus's connection on which that was known to be in the stream. */
  #seenOn = 0;
  #looking: Promise<void> | undefined;
  #isLost = false;

  constructor(options: FactStoreOptions) {
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? 5_000;
  }

  async start(): Promise<void> {
    await this.#ready();
  }

  /** Sets the key whatever it is now. Returns the revision. Only for facts with one owner. */
  async publish(key: string, value: unknown, options: PublishOptions = {}): Promise<number> {
    return this.#publish(key, JSON.stringify(value), options);
  }

  /** Leaves a tombstone. */
  async delete(key: string, options: PublishOptions = {}): Promise<number> {
    return this.#publish(key, undefined, options);
  }

  /**
   * Whether what this process published without a condition is still in the stream; from a loss until `noteRestated` it is
   * not. The newest of it is looked for: what a stream loses is missing from its end, so all before it is there too. True
   * when it has published nothing.
   *
   * What was published after a loss would hide it. So over a new connection, behind which may be a stream that has lost
   * something, nothing is published before it was looked, and what was under way while the connection changed proves
   * nothing.
   */
  async isIntact(): Promise<boolean> {
    if (!this.#isLost && !(await this.#isThere())) this.#isLost = true;
    return !this.#isLost;
  }

  async #isThere(): Promise<boolean> {
    for (let look = 1; ; look += 1) {
      const last = this.#lastPublished;
      if (last === undefined) return true;
      const there = await this.#newest(last.key);
      if (there?.sequence === last.revision && there.clock === last.clock) return true;
      // A publish that is under way is ahead of what is known of it here.
      const isUnderWay = this.#lastPublished !== last || (there !== undefined && there.clock > last.clock);
      if (!isUnderWay || look === 3) return false;
      await this.#options.bus.flush();
    }
  }

  /** All that is so will be said again: what was lost is made up for. */
  noteRestated(): void {
    this.#isLost = false;
    this.#lastPublished = undefined;
  }

  /** @throws HearthError when it cannot be looked; then nothing may be published */
  async #lookFirst(): Promise<void> {
    const { bus } = this.#options;
    while (this.#seenOn !== bus.connections) {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = undefined;
      });
      await this.#looking;
    }
  }

  async #look(): Promise<void> {
    const { connections } = this.#options.bus;
    await this.isIntact();
    this.#seenOn = connections;
  }

  async #newest(key: string): Promise<StoredVersion | undefined> {
    try {
      const { connection } = this.#options.bus;
      // Without the question whether there is a JetStream, which would be a second one for each look.
      const manager = await jetstreamManager(connection, { timeout: this.#timeoutMs, checkAPI: false });
      const message = await messageOf(manager, key);
      return message === undefined ? undefined : versionOf(storedMessage(message), "");
    } catch (error) {
      if (error instanceof JetStreamApiError && error.code === streamNotFound) return undefined;
      throw factError(error);
    }
  }

  /** The stream that is there now, which is made when there is none, and its last revision. */
  async position(): Promise<{ readonly stream: string; readonly revision: number }> {
    try {
      const manager = await jetstreamManager(this.#options.bus.connection, { timeout: this.#timeoutMs });
      await ensureStateStream(manager, this.#options.replicas ?? 1);
      const info = await manager.streams.info(stateStream);
      return { stream: streamIdentity(info), revision: info.state.last_seq };
    } catch (error) {
      throw factError(error);
    }
  }

  /**
   * Sets the key if its revision is still the expected one; 0 means that there is no such key.
   * `undefined` deletes. Throws `conflict` when it has another revision.
   */
  async compareAndSet(key: string, value: unknown, expectedRevision: number): Promise<number> {
    return (await this.compareAndWrite(key, value, expectedRevision)).revision;
  }

  /** The same, and answers by what a replica can wait for; see `Replica.waitForWrite`. */
  async compareAndWrite(key: string, value: unknown, expectedRevision: number): Promise<Written> {
    try {
      return await this.#writeIf(key, value, expectedRevision);
    } catch (error) {
      if (expectedRevision !== 0 || !isConflict(error)) throw error;
      const tombstone = await this.#tombstoneOf(key);
      if (tombstone === undefined) throw error;
      return await this.#writeIf(key, value, tombstone);
    }
  }

  /**
   * Sets the key, or deletes it with `undefined`, whatever it is now. It is a compare-and-set too: next to one of another
   * writer that is under way, one without a condition would be lost with an acknowledgement.
   * @throws HearthError `conflict` when the key never stands still
   */
  async write(key: string, value: unknown): Promise<Written> {
    for (let attempt = 1; ; attempt += 1) {
      const there = await this.#newest(assertKey(key));
      if (there !== undefined) this.#options.bus.clock.see(there.clock);
      try {
        return await this.#writeIf(key, value, there?.sequence ?? 0);
      } catch (error) {
        if (attempt === mostOvertaken || !isConflict(error)) throw error;
        // A newer server says so before the other write is stored, and a look would not see it yet.
        await delay(attempt * overtakenWaitMs);
      }
    }
  }

  async #writeIf(key: string, value: unknown, expectedRevision: number): Promise<Written> {
    assertKey(key);
    const deps = await this.#ready();
    const clock = this.#options.bus.clock.next();
    const revision = await writeIf(deps, {
      key,
      text: value === undefined ? "" : JSON.stringify(value),
      headers: writeHeaders(value === undefined, clock),
      expectedRevision,
      timeoutMs: this.#timeoutMs,
    });
    return { key, revision, clock };
  }

  async #publish(key: string, text: string | undefined, options: PublishOptions): Promise<number> {
    await this.#lookFirst();
    const { bus } = this.#options;
    const { connections } = bus;
    const beganAt = this.#isLost ? 0 : (this.#lastPublished?.revision ?? 0);
    const written = await this.#write(key, text, options);
    if (written.isDuplicate || connections !== bus.connections) return written.revision;
    // A stream that is behind what it was has lost something, also without a new connection.
    if (written.revision <= beganAt) this.#isLost = true;
    if (!this.#isLost && written.revision > (this.#lastPublished?.revision ?? 0))
      this.#lastPublished = written;
    return written.revision;
  }

  /** What the stream has now, not what a replica knows; a deletion and a key that never was are undefined. */
  async read(key: string): Promise<{ readonly value: unknown; readonly revision: number } | undefined> {
    try {
      const { manager } = await this.#ready();
      const message = await manager.streams.getMessage(stateStream, {
        last_by_subj: statePrefix + assertKey(key),
      });
      if (message === null || message.header.has(tombstoneHeader)) return undefined;
      return { value: message.json(), revision: message.seq };
    } catch (error) {
      if (error instanceof JetStreamApiError && error.code === noMessageFound) return undefined;
      throw factError(error);
    }
  }

  async #write(
    key: string,
    text: string | undefined,
    options: PublishOptions,
  ): Promise<Written & { readonly isDuplicate: boolean }> {
    const subject = statePrefix + assertKey(key);
    try {
      const { client } = await this.#ready();
      const clock = this.#options.bus.clock.next();
      const ack = await client.publish(subject, text ?? "", {
        timeout: this.#timeoutMs,
        headers: writeHeaders(text === undefined, clock),
        ...(options.messageId === undefined ? {} : { msgID: options.messageId }),
      });
      return { key, revision: ack.seq, clock, isDuplicate: ack.duplicate };
    } catch (error) {
      throw factError(error);
    }
  }

  async #tombstoneOf(key: string): Promise<number | undefined> {
    try {
      const { manager } = await this.#ready();
      const message = await messageOf(manager, key);
      if (message === undefined || !message.header.has(tombstoneHeader)) return undefined;
      this.#options.bus.clock.see(versionOf(storedMessage(message), "").clock);
      return message.seq;
    } catch (error) {
      throw factError(error);
    }
  }

  async #ready(): Promise<{ readonly client: JetStreamClient; readonly manager: JetStreamManager }> {
    if (this.#client !== undefined) return this.#client;
    const { connection } = this.#options.bus;
    try {
      const manager = await jetstreamManager(connection, { timeout: this.#timeoutMs });
      await ensureStateStream(manager, this.#options.replicas ?? 1);
      this.#client = { client: jetstream(connection, { timeout: this.#timeoutMs }), manager };
      return this.#client;
    } catch (error) {
      throw factError(error);
    }
  }
}

const isConflict = (error: unknown): boolean => error instanceof HearthError && error.code === "conflict";
