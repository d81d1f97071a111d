/**
 * A write that is taken only while its key has the revision that the writer has seen, on any server, and of which the
 * writer learns what became, also when an answer is lost on the way.
 *
 * **Only one is taken.** In a cluster, nats-server before 2.9.21 compares the revision when the write comes in and not when
 * it is stored, so of two that come in together both were taken, in nine of ten races of three (docs/rfd/0006). What it
 * does compare when it stores is the message id, against those of the last two minutes. So whatever is to take the place of
 * one revision of one key has one id: the second is answered as a duplicate, which is the same as another revision. For a
 * key that is not there yet it compares the revision itself when it stores.
 *
 * **A lost answer is asked for again.** The answer can be lost where the write is not: with a server that ends, with a
 * connection, and in a server that reads its configuration again. The same write is sent again then, which cannot be taken
 * twice, and a mark in it tells whether what is there instead is itself.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { type JetStreamClient, type JetStreamManager, PubHeaders } from "@nats-io/jetstream";
import { type MsgHdrs, RequestError, TimeoutError } from "@nats-io/nats-core";
import { factError, isOtherRevision, isUnderWay, messageOf, statePrefix } from "./state-stream.ts";

export interface ConditionalWrite {
  readonly key: string;
  readonly text: string;
  readonly headers: MsgHdrs;
  /** 0 for a key that is not there. */
  readonly expectedRevision: number;
  /** For all tries together. */
  readonly timeoutMs: number;
  /** How long one answer is waited for. */
  readonly answerMs?: number;
}

/** Far more than an answer takes on a busy host, and less than a third of what a client of the API waits. */
const defaultAnswerMs = 1_500;
/** A stream without a leader says so at once, and so does one with another write under way. */
const againMs = 250;
const markHeader = "Hearth-Write";

/**
 * Returns the revision that the key has with it.
 * @throws HearthError `conflict` when another write was taken in its place, `unavailable` or `deadline_exceeded` when it
 * is not known whether it was taken, `bus_full`, `bus_refused`
 */
export async function writeIf(
  { client, manager }: { readonly client: JetStreamClient; readonly manager: JetStreamManager },
  write: ConditionalWrite,
): Promise<number> {
  const { key, text, headers, expectedRevision, timeoutMs, answerMs = defaultAnswerMs } = write;
  const mark = randomUUID();
  headers.set(markHeader, mark);
  const endMs = performance.now() + timeoutMs;
  let unanswered: unknown;
  for (;;) {
    const leftMs = Math.max(1, endMs - performance.now());
    try {
      const { seq, duplicate } = await client.publish(statePrefix + key, text, {
        headers,
        ...(expectedRevision === 0 ? {} : { msgID: `${key}@${expectedRevision}` }),
        expect: { lastSubjectSequence: expectedRevision },
        // What would be left after a full wait may be too short for an answer: then it belongs to this one.
        timeout: leftMs < 2 * answerMs ? leftMs : answerMs,
      });
      if (!duplicate) return seq;
      if (unanswered === undefined) throw new HearthError("conflict");
      break;
    } catch (error) {
      if (isOtherRevision(error) && unanswered !== undefined) break;
      const isAtOnce = isNoResponders(error) || (isUnderWay(error) && unanswered !== undefined);
      if (!isAtOnce && !(error instanceof TimeoutError)) throw factError(error);
      // What is under way may be what was sent before; it says nothing of that.
      if (!isUnderWay(error)) unanswered = error;
      if (isAtOnce) await delay(againMs);
      if (performance.now() >= endMs) throw factError(unanswered);
    }
  }
  return await whatBecame({ manager, key, mark, expectedRevision, unanswered });
}

interface Unanswered {
  readonly manager: JetStreamManager;
  readonly key: string;
  readonly mark: string;
  readonly expectedRevision: number;
  readonly unanswered: unknown;
}

async function whatBecame({ manager, key, mark, expectedRevision, unanswered }: Unanswered): Promise<number> {
  const there = await messageOf(manager, key).catch((error: unknown) => {
    throw factError(error);
  });
  if (there?.header.get(markHeader) === mark) return there.seq;
  // What took the place of the same revision leaves no room for this one. Anything else may have followed it.
  const replaced = there?.header.get(PubHeaders.ExpectedLastSubjectSequenceHdr);
  if (replaced === String(expectedRevision)) throw new HearthError("conflict");
  throw factError(unanswered);
}

/** Which the client of JetStream hands on as the cause of another error. */
const isNoResponders = (error: unknown): boolean =>
  error instanceof Error && error.cause instanceof RequestError && error.cause.isNoResponders();
