import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import fc from "fast-check";
import { maxLineBytes, readJsonLines, readMessages } from "./ndjson.ts";

async function* chunksOf(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (const size of sizes) {
    yield bytes.subarray(at, at + size);
    at += size;
  }
  yield bytes.subarray(at);
}

test("lines are the same however the bytes are cut, also within a character", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ text: fc.string({ unit: "binary" }), n: fc.integer() }), { maxLength: 8 }),
      fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 30 }),
      fc.boolean(),
      async (values, sizes, lastNewline) => {
        const text = values.map((value) => JSON.stringify(value)).join("\n");
        const bytes = Buffer.from(lastNewline ? `${text}\n` : text);
        const read = await Array.fromAsync(readJsonLines(chunksOf(bytes, sizes)));
        assert.deepEqual(read, JSON.parse(JSON.stringify(values)));
      },
    ),
  );
});

test("a line that never ends is refused before it fills the memory", async () => {
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) yield Buffer.alloc(1024 * 1024, "x");
  }
  await assert.rejects(Array.fromAsync(readJsonLines(endless())), { code: "payload_too_large" });
  assert.ok(maxLineBytes < 64 * 1024 * 1024);
});

test("an error line ends the stream with that error, after what came before it", async () => {
  const seen: unknown[] = [];
  const lines = `{"kind":"merging"}\n{"kind":"error","error":{"code":"image_not_found","message":"Gone."}}\n`;
  await assert.rejects(
    async () => {
      for await (const value of readMessages(chunksOf(Buffer.from(lines), []))) seen.push(value);
    },
    new HearthError("image_not_found", { message: "Gone." }),
  );
  assert.deepEqual(seen, [{ kind: "merging" }]);
});

test("a connection that breaks in the middle is unavailable, not the end", async () => {
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(`{"a":1}\n{"b"`);
    throw Object.assign(new Error("aborted"), { code: "ECONNRESET" });
  }
  await assert.rejects(Array.fromAsync(readMessages(broken())), { code: "unavailable" });
});
