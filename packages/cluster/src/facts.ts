/**
 * Cluster state: one current value a key, in the JetStream stream HEARTH_STATE, subjects `state.<key>`.
 *
 * The stream keeps one message a subject, so its sequence is the revision of the key, and one consumer of
 * the stream is a feed of the whole state. Compare-and-set is the server's own check of the last sequence
 * of the subject. A deletion is a message too (a tombstone): a replica that was away must learn of it.
 */
import { randomUUID } from "node:crypto";
import { HearthError } from "@hearth/errors";
import {
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamInfo,
} from "@nats-io/jetstream";
import { headers, nanos } from "@nats-io/nats-core";
import { type Bus, busError } from "./bus.ts";
import { refusedBy } from "./bus-refusals.ts";
import { assertKey } from "./subjects.ts";

export const stateStream = "HEARTH_STATE";
export const statePrefix = "state.";
export const tombstoneHeader = "Hearth-Deleted";

const identityPrefix = "Hearth state ";
const wrongLastSequence = 10071;
const streamNotFound = 10059;
const noMessageFound = 10037;

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

/** Writes facts. `start` makes the stream when there is none. Errors: `unavailable`, `deadline_exceeded`. */
export class FactStore {
  readonly #options: FactStoreOptions;
  readonly #timeoutMs: number;
  #client: JetStreamClient | undefined;

  constructor(options: FactStoreOptions) {
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? 5_000;
  }

  async start(): Promise<void> {
    await this.#ready();
  }

  /** Sets the key whatever it is now. Returns the revision. Only for facts with one owner. */
  async publish(key: string, value: unknown, options: PublishOptions = {}): Promise<number> {
    return this.#write(key, JSON.stringify(value), { ...options });
  }

  /** Leaves a tombstone. */
  async delete(key: string, options: PublishOptions = {}): Promise<number> {
    return this.#write(key, undefined, { ...options });
  }

  /**
   * Sets the key if its revision is still the expected one; 0 means that there is no such key.
   * `undefined` deletes. Throws `conflict` when it has another revision.
   */
  async compareAndSet(key: string, value: unknown, expectedRevision: number): Promise<number> {
    const text = value === undefined ? undefined : JSON.stringify(value);
    try {
      return await this.#write(key, text, { expectedRevision });
    } catch (error) {
      if (expectedRevision !== 0 || !(error instanceof HearthError) || error.code !== "conflict") throw error;
      const tombstone = await this.#tombstoneOf(key);
      if (tombstone === undefined) throw error;
      return this.#write(key, text, { expectedRevision: tombstone });
    }
  }

  /** Sets the key if the stream knows nothing of it, not even a deletion. Throws `conflict` otherwise. */
  async restore(key: string, value: unknown): Promise<number> {
    return this.#write(key, JSON.stringify(value), { expectedRevision: 0 });
  }

  async #write(
    key: string,
    text: string | undefined,
    options: PublishOptions & { readonly expectedRevision?: number },
  ): Promise<number> {
    const subject = statePrefix + assertKey(key);
    const head = headers();
    if (text === undefined) head.set(tombstoneHeader, "1");
    try {
      const client = await this.#ready();
      const ack = await client.publish(subject, text ?? "", {
        timeout: this.#timeoutMs,
        headers: head,
        ...(options.messageId === undefined ? {} : { msgID: options.messageId }),
        ...(options.expectedRevision === undefined
          ? {}
          : { expect: { lastSubjectSequence: options.expectedRevision } }),
      });
      return ack.seq;
    } catch (error) {
      throw factError(error);
    }
  }

  async #tombstoneOf(key: string): Promise<number | undefined> {
    try {
      const manager = await jetstreamManager(this.#options.bus.connection, { timeout: this.#timeoutMs });
      const message = await manager.streams.getMessage(stateStream, { last_by_subj: statePrefix + key });
      return message?.header.has(tombstoneHeader) ? message.seq : undefined;
    } catch (error) {
      if (error instanceof JetStreamApiError && error.code === noMessageFound) return undefined;
      throw factError(error);
    }
  }

  async #ready(): Promise<JetStreamClient> {
    if (this.#client !== undefined) return this.#client;
    const { connection } = this.#options.bus;
    try {
      const manager = await jetstreamManager(connection, { timeout: this.#timeoutMs });
      await ensureStateStream(manager, this.#options.replicas ?? 1);
      this.#client = jetstream(connection, { timeout: this.#timeoutMs });
      return this.#client;
    } catch (error) {
      throw factError(error);
    }
  }
}

/**
 * Makes the stream when there is none; an existing one is left as the operator has it. Who may not make it waits.
 * @throws `unavailable` then
 */
export async function ensureStateStream(manager: JetStreamManager, replicas: number): Promise<void> {
  try {
    await manager.streams.info(stateStream);
  } catch (error) {
    if (!(error instanceof JetStreamApiError) || error.code !== streamNotFound) throw error;
    const making = manager.streams.add({
      name: stateStream,
      description: `${identityPrefix}${randomUUID()}`,
      subjects: [`${statePrefix}>`],
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      discard: DiscardPolicy.New, // a full store refuses new facts; it never forgets old ones
      max_msgs_per_subject: 1,
      duplicate_window: nanos(120_000),
      num_replicas: replicas,
      allow_direct: true,
    });
    await making.catch((cause: unknown) => {
      if (refusedBy(cause) === undefined) throw cause;
      throw new HearthError("unavailable", {
        message: "The bus holds no state yet; try again in a moment.",
        cause,
      });
    });
  }
}

/**
 * Which stream it is: two with one name and different histories differ in it. Not the time at which it was made, of
 * which the servers of a cluster have each their own after the stream was restored from a snapshot (2.9.10).
 */
export function streamIdentity({ config, created }: Pick<StreamInfo, "config" | "created">): string {
  const { description = "" } = config;
  return description.startsWith(identityPrefix) ? description.slice(identityPrefix.length) : created;
}

/**
 * Puts back what a new or shortened stream lost, from a replica that has it. A key or deletion that the
 * stream has by now is newer than the copy and stays. Returns the keys that were put back, to be reported loudly.
 */
export async function restoreFacts(
  facts: Pick<FactStore, "restore">,
  lost: Iterable<{ readonly key: string; readonly value: unknown }>,
): Promise<string[]> {
  const restored: string[] = [];
  for (const { key, value } of lost) {
    try {
      await facts.restore(key, value);
      restored.push(key);
    } catch (error) {
      if (!(error instanceof HearthError) || error.code !== "conflict") throw error;
    }
  }
  return restored;
}

export function factError(error: unknown): HearthError {
  if (error instanceof JetStreamApiError && error.code === wrongLastSequence) {
    return new HearthError("conflict", { cause: error });
  }
  return busError(error);
}
