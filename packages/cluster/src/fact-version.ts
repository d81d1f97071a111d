/**
 * Which of two values of a key is the newer one, also when they were never in one stream. Pure.
 *
 * JetStream acknowledges before it syncs, so a stream can come back empty, as another stream that counts from 1
 * again; shorter, with numbers that new writes then use a second time; or as it was long ago, when somebody restores its
 * store. Neither a sequence nor the age of a stream says anything between such streams. Each write therefore carries a
 * clock (write-clock.ts), which is higher than that of every write its writer had heard of, and a copy that is put back
 * keeps it, with the stream and the revision that it had when it was first written, in its headers.
 *
 * The rule of a put-back (docs/rfd/0005): where nothing is, it is put; where something is, the higher clock stays. What
 * is written newly after a loss stays because its writer's clock jumped when it noticed the loss. A deletion is a value
 * like any other. Since this is an order, copies may be put back by anybody, in any order, any number of times, and the
 * newest of them is what remains.
 */
import { headers, type MsgHdrs } from "@nats-io/nats-core";

export const tombstoneHeader = "Hearth-Deleted";
export const clockHeader = "Hearth-Clock";
const originStreamHeader = "Hearth-Origin-Stream";
const originRevisionHeader = "Hearth-Origin-Revision";

export interface FactVersion {
  /** The stream on which this was first written, by the time of its making. */
  readonly stream: string;
  /** Its sequence there. */
  readonly revision: number;
  readonly clock: number;
}

export interface StoredVersion extends FactVersion {
  /** Of the message that is in the stream now. */
  readonly sequence: number;
}

export function isPutBackOver(
  lost: Pick<FactVersion, "clock" | "revision">,
  there: Pick<FactVersion, "clock" | "revision"> | undefined,
): boolean {
  if (there === undefined) return true;
  // Writers of before the clock have the time of the server, and two of them may have the same.
  return lost.clock === there.clock ? lost.revision > there.revision : lost.clock > there.clock;
}

export interface VersionedMessage {
  readonly seq: number;
  readonly headers: MsgHdrs | undefined;
  readonly time: Date;
}

export function versionOf({ seq, headers: head, time }: VersionedMessage, stream: string): StoredVersion {
  const origin = head?.get(originStreamHeader) || undefined;
  const clock = Number(head?.get(clockHeader) || Number.NaN);
  return {
    sequence: seq,
    stream: origin ?? stream,
    revision: origin === undefined ? seq : Number(head?.get(originRevisionHeader)),
    // Who writes without a clock is judged by when the server took it.
    clock: Number.isSafeInteger(clock) ? clock : time.getTime() * 1_000,
  };
}

export function writeHeaders(isDeleted: boolean, clock: number): MsgHdrs {
  const head = headers();
  if (isDeleted) head.set(tombstoneHeader, "1");
  head.set(clockHeader, String(clock));
  return head;
}

export function putBackHeaders(isDeleted: boolean, version: FactVersion): MsgHdrs {
  const head = writeHeaders(isDeleted, version.clock);
  head.set(originStreamHeader, version.stream);
  head.set(originRevisionHeader, String(version.revision));
  return head;
}
