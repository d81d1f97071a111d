/**
 * Answers as they were sent, by the bytes of the question and all that came with it: a question that is asked again
 * is neither read nor made anew. Nothing here is ever wrong for long: what a network sees has a version, and with
 * another version the cache of that network begins empty.
 *
 * Questions are compared by the word where they lie, and no text is made of them. Two that fall on one place put each
 * other out: who asks such ones has them made anew, as whoever asks what was never asked.
 *
 * Addresses of one answer are turned by one each time it is sent, so that clients that take the first share the
 * machines among them.
 */
import { byteAt, type Lane, wordAt } from "./datagrams/lanes.ts";
import type { Encoded } from "./response.ts";

const maxEntries = 2_048;
/** Long questions and large answers are made anew. */
const maxEntryBytes = 2_048;

/** A message that begins with a whole word, with zeroes behind it to the end of its last. */
export interface QuestionBytes {
  readonly words: Int32Array;
  readonly at: number;
  /** In bytes. */
  readonly length: number;
}

export interface CachedAnswer {
  readonly bytes: Buffer;
  /** Where the records begin that are turned, and how long each is; 0 when none are. */
  readonly turnAt: number;
  readonly turnBytes: number;
  readonly turnEnd: number;
  turn: number;
}

interface Entry {
  readonly question: Int32Array;
  readonly length: number;
  readonly answer: CachedAnswer;
}

export class AnswerCache {
  readonly #entries = new Map<number, Entry>();
  readonly #version: () => number;
  #filledAt = -1;
  /** Of the question that `get` was last asked about. */
  #place = 0;

  constructor(version: () => number) {
    this.#version = version;
  }

  get(question: QuestionBytes): CachedAnswer | undefined {
    this.#place = questionPlace(question);
    if (this.#filledAt !== this.#version()) {
      this.#entries.clear();
      this.#filledAt = this.#version();
      return undefined;
    }
    const entry = this.#entries.get(this.#place);
    return entry !== undefined && isSame(entry, question) ? entry.answer : undefined;
  }

  /** Right after `get` found nothing. */
  put({ words, at, length }: QuestionBytes, answer: CachedAnswer): void {
    if (length + answer.bytes.length > maxEntryBytes) return;
    if (this.#entries.size >= maxEntries) this.#entries.clear();
    const question = words.slice(at, at + ((length + 3) >>> 2));
    this.#entries.set(this.#place, { question, length, answer });
  }
}

/** All but the id, which is the first half of the first word: the rest says whatever the answer depends on. */
export function questionPlace({ words, at, length }: QuestionBytes): number {
  let place = ((words[at] ?? 0) >>> 16) ^ (length << 16);
  const end = at + ((length + 3) >>> 2);
  for (let word = at + 1; word < end; word += 1) {
    place = Math.imul(place ^ (words[word] ?? 0), 0x9e3779b1);
    place ^= place >>> 15;
  }
  return place;
}

function isSame(entry: Entry, { words, at, length }: QuestionBytes): boolean {
  const { question } = entry;
  if (entry.length !== length || (question[0] ?? 0) >>> 16 !== (words[at] ?? 0) >>> 16) return false;
  for (let word = 1; word < question.length; word += 1) if (question[word] !== words[at + word]) return false;
  return true;
}

export function cachedAnswer({ bytes, answersAt, answersEnd, recordBytes }: Encoded): CachedAnswer {
  const isOne = answersAt + recordBytes >= answersEnd;
  return { bytes, turnAt: answersAt, turnBytes: isOne ? 0 : recordBytes, turnEnd: answersEnd, turn: 0 };
}

/**
 * Writes the answer into a slot with the id, the records turned by one more than the last time. Returns its length.
 * @param id as it lies in a word
 */
export function writeAnswer(answer: CachedAnswer, lane: Lane, slot: number, id: number): number {
  const { bytes, turnAt, turnBytes, turnEnd } = answer;
  const at = byteAt(slot);
  const into = lane.bytes;
  const split = turnAt + answer.turn * turnBytes;
  if (turnBytes === 0 || answer.turn === 0) bytes.copy(into, at);
  else {
    bytes.copy(into, at, 0, turnAt);
    bytes.copy(into, at + turnAt, split, turnEnd);
    bytes.copy(into, at + turnAt + turnEnd - split, turnAt, split);
    bytes.copy(into, at + turnEnd, turnEnd);
  }
  if (turnBytes > 0) answer.turn = split + turnBytes >= turnEnd ? 0 : answer.turn + 1;
  const { words } = lane;
  const first = wordAt(slot);
  words[first] = ((words[first] ?? 0) & 0xffff_0000) | id;
  return bytes.length;
}
