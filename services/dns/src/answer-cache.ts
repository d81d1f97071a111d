/**
 * Answers as they were sent, by the bytes of the question and all that came with it: a question that is asked again
 * is neither read nor made anew. Nothing here is ever wrong for long: what a network sees has a version, and with
 * another version the cache of that network begins empty.
 *
 * Addresses of one answer are turned by one each time it is sent, so that clients that take the first share the
 * machines among them.
 */
import type { Encoded } from "./response.ts";

const maxEntries = 2_048;
/** Long questions and large answers are made anew. */
const maxEntryBytes = 2_048;

export interface CachedAnswer {
  readonly bytes: Buffer;
  /** Where the records begin that are turned, and how long each is; 0 when none are. */
  readonly turnAt: number;
  readonly turnBytes: number;
  readonly turnEnd: number;
  turn: number;
}

export class AnswerCache {
  readonly #entries = new Map<string, CachedAnswer>();
  readonly #version: () => number;
  #filledAt = -1;

  constructor(version: () => number) {
    this.#version = version;
  }

  get(key: string): CachedAnswer | undefined {
    if (this.#filledAt === this.#version()) return this.#entries.get(key);
    this.#entries.clear();
    this.#filledAt = this.#version();
    return undefined;
  }

  /** Right after `get` found nothing. */
  put(key: string, answer: CachedAnswer): void {
    if (key.length + answer.bytes.length > maxEntryBytes) return;
    if (this.#entries.size >= maxEntries) this.#entries.clear();
    this.#entries.set(key, answer);
  }
}

export function cachedAnswer({ bytes, answersAt, answersEnd, recordBytes }: Encoded): CachedAnswer {
  const isOne = answersAt + recordBytes >= answersEnd;
  return { bytes, turnAt: answersAt, turnBytes: isOne ? 0 : recordBytes, turnEnd: answersEnd, turn: 0 };
}

/** Writes the answer with the id, the records turned by one more than the last time. Returns its length. */
export function writeAnswer(answer: CachedAnswer, into: Buffer, at: number, id: number): number {
  const { bytes, turnAt, turnBytes, turnEnd } = answer;
  const split = turnAt + answer.turn * turnBytes;
  if (turnBytes === 0 || answer.turn === 0) bytes.copy(into, at);
  else {
    bytes.copy(into, at, 0, turnAt);
    bytes.copy(into, at + turnAt, split, turnEnd);
    bytes.copy(into, at + turnAt + turnEnd - split, turnAt, split);
    bytes.copy(into, at + turnEnd, turnEnd);
  }
  if (turnBytes > 0) answer.turn = split + turnBytes >= turnEnd ? 0 : answer.turn + 1;
  into[at] = id >>> 8;
  into[at + 1] = id & 0xff;
  return bytes.length;
}
