/**
 * The stream that is the cluster state, as NATS has it: its name and subjects, how it is made, which one it is, what it
 * has of a key, and what its errors are as codes of Hearth.
 */
import { randomUUID } from "node:crypto";
import { HearthError } from "@hearth/errors";
import {
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StoredMsg,
  type StreamInfo,
} from "@nats-io/jetstream";
import { nanos } from "@nats-io/nats-core";
import { busError } from "./bus.ts";
import { refusedBy } from "./bus-refusals.ts";

export const stateStream = "HEARTH_STATE";
export const statePrefix = "state.";

const identityPrefix = "Hearth state ";
const wrongLastSequence = 10071;
/** Of newer servers, of a write that meets another one which is not stored yet: the revision, or the id, is taken. */
const takenByOneUnderWay: ReadonlySet<number> = new Set([10164, 10158]);
/** A limit of the stream (2.9.10 says so of any failure to store), of the account, and of the server. */
const noRoom: ReadonlySet<number> = new Set([10077, 10023, 10047]);
export const streamNotFound = 10059;
const streamNameInUse = 10058;
export const noMessageFound = 10037;

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
      // Somebody else made it between the look and this, with an identity of its own.
      if (cause instanceof JetStreamApiError && cause.code === streamNameInUse) return;
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

/** Another write of the key has been stored. */
export const isOtherRevision = (error: unknown): boolean =>
  error instanceof JetStreamApiError && error.code === wrongLastSequence;

/** Another write of the key is about to be stored. */
export const isUnderWay = (error: unknown): boolean =>
  error instanceof JetStreamApiError && takenByOneUnderWay.has(error.code);

export function factError(error: unknown): HearthError {
  if (isOtherRevision(error) || isUnderWay(error)) return new HearthError("conflict", { cause: error });
  if (error instanceof JetStreamApiError && noRoom.has(error.code))
    return new HearthError("bus_full", { cause: error });
  return busError(error);
}

/** The newest message of a key, from the leader of the stream. */
export async function messageOf(manager: JetStreamManager, key: string): Promise<StoredMsg | undefined> {
  try {
    return (await manager.streams.getMessage(stateStream, { last_by_subj: statePrefix + key })) ?? undefined;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === noMessageFound) return undefined;
    throw error;
  }
}

export const storedMessage = ({ seq, header, time }: StoredMsg) => ({ seq, headers: header, time });
