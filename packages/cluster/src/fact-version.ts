/**
 * Which of two values of a key is the newer one, also when they were never in one stream. Pure.
 *
 * JetStream acknowledges before it syncs, so a stream can come back empty, as another stream that counts from 1
 * again, or shorter, with numbers that new writes then use a second time. A sequence number says nothing between
 * such streams. Each write therefore carries a clock of its own (write-clock.ts), which is higher than that of every
 * write its writer had heard of, and a copy that is put back keeps the clock, the stream and the revision that it had
 * when it was first written, in its headers. The rules of a put-back (docs/rfd/0004):
 *
 * 1. Nothing there: it is put.
 * 2. What is there was written newly on a stream that was made after the lost one: that stays.
 * 3. Otherwise (another copy that was put back; a message of the same stream, which lost its end; an older stream,
 *    which somebody restored): the higher clock stays, and at the same clock the higher revision.
 *
 * A deletion is a value like any other. Since 3 is an order, copies may be put back by anybody, in any order, any
 * number of times, and the newest of them is what remains.
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
  readonly isPutBack: boolean;
}

export function isPutBackOver(lost: FactVersion, there: StoredVersion | undefined): boolean {
  if (there === undefined) return true;
  if (!there.isPutBack && Date.parse(there.stream) > Date.parse(lost.stream)) return false;
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
    isPutBack: origin !== undefined,
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
