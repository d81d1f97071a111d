import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  AnswerCache,
  type CachedAnswer,
  type QuestionBytes,
  questionPlace,
  writeAnswer,
} from "./answer-cache.ts";
import { byteAt, lanesOf, memoryBytes } from "./datagrams/lanes.ts";

const answer = (text: string, turns?: Partial<CachedAnswer>): CachedAnswer => ({
  ...{ bytes: Buffer.from(text), turnAt: 0, turnBytes: 0, turnEnd: 0, turn: 0 },
  ...turns,
});

/** As it lies in a slot, with zeroes behind it. */
function question(bytes: Uint8Array): QuestionBytes {
  const words = new Int32Array(64);
  new Uint8Array(words.buffer, 8).set(bytes);
  return { words, at: 2, length: bytes.length };
}

test("only the same bytes are answered by what was kept, whatever their id", () => {
  const message = fc.uint8Array({ minLength: 12, maxLength: 200 });
  fc.assert(
    fc.property(message, fc.nat(), fc.integer({ min: 1, max: 255 }), (bytes, at, change) => {
      const cache = new AnswerCache(() => 1);
      assert.equal(cache.get(question(bytes)), undefined);
      cache.put(question(bytes), answer("kept"));
      const other = Uint8Array.from(bytes);
      const place = at % bytes.length;
      other[place] = (other[place] ?? 0) ^ change;
      assert.equal(cache.get(question(other))?.bytes.toString(), place < 2 ? "kept" : undefined);
      assert.equal(cache.get(question(Uint8Array.of(...bytes, 0))), undefined, "longer by a zero");
      assert.equal(cache.get(question(bytes))?.bytes.toString(), "kept");
    }),
  );
});

test("questions that fall on one place put each other out, and are never taken for one another", () => {
  // Among so many there are a few of which two fall on one place.
  const seen = new Map<number, Buffer>();
  const pairs: (readonly [Buffer, Buffer])[] = [];
  for (let at = 0; at < 400_000 && pairs.length < 3; at += 1) {
    const bytes = Buffer.alloc(20);
    bytes.writeUInt32BE(Math.imul(at, 0x9e37_79b1) >>> 0, 12);
    bytes.writeUInt32BE(at, 16);
    const place = questionPlace(question(bytes));
    const other = seen.get(place);
    if (other === undefined) seen.set(place, bytes);
    else pairs.push([other, bytes]);
  }
  assert.ok(pairs.length > 0);
  const cache = new AnswerCache(() => 1);
  for (const [one, other] of pairs)
    for (const [asked, next] of [
      [one, other],
      [other, one],
    ] as const) {
      cache.get(question(asked));
      cache.put(question(asked), answer("of this"));
      assert.equal(cache.get(question(next)), undefined);
      assert.equal(cache.get(question(asked))?.bytes.toString(), "of this");
    }
});

test("it does not grow for ever", () => {
  const cache = new AnswerCache(() => 1);
  const asked = Array.from({ length: 5_000 }, (_, at) => question(Buffer.alloc(20).fill(String(at))));
  for (const one of asked) {
    cache.get(one);
    cache.put(one, answer("kept"));
    assert.ok(cache.get(one) !== undefined);
  }
  const kept = asked.filter((one) => cache.get(one) !== undefined);
  assert.ok(kept.length <= 2_048, String(kept.length));
});

test("with another version nothing is kept, and what is large is never", () => {
  let version = 1;
  const cache = new AnswerCache(() => version);
  const asked = question(Buffer.alloc(20, 7));
  cache.get(asked);
  cache.put(asked, answer("old"));
  version += 1;
  assert.equal(cache.get(asked), undefined);
  assert.equal(cache.get(asked), undefined);
  cache.put(asked, answer("x".repeat(2_040)));
  assert.equal(cache.get(asked), undefined);
});

test("an answer is written with the id of its question, its records turned by one each time", () => {
  const { outgoing } = lanesOf(new ArrayBuffer(memoryBytes));
  const kept = answer("..headAABBCCtail", { turnAt: 6, turnBytes: 2, turnEnd: 12 });
  const id = Buffer.from("id").readUInt16LE();
  const written = Array.from({ length: 4 }, (_, slot) => {
    const length = writeAnswer(kept, outgoing, slot, id);
    return outgoing.bytes.toString("latin1", byteAt(slot), byteAt(slot) + length);
  });
  assert.deepEqual(written, ["idheadAABBCCtail", "idheadBBCCAAtail", "idheadCCAABBtail", "idheadAABBCCtail"]);
  assert.equal(kept.bytes.toString(), "..headAABBCCtail");
});
