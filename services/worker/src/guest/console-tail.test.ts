import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { consoleTail, keptTailCharacters, lastLines, printable, tailForEvent } from "./console-tail.ts";

test("whatever a guest writes, what is kept is bounded printable lines", async () => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-console-"));
  const path = join(dir, "console.log");
  try {
    assert.equal(await consoleTail(path), "", "there is no console yet");
    const chunk = fc.oneof(
      fc.uint8Array({ maxLength: 3_000 }),
      fc.constantFrom("\x1b[31m", "\x1b]0;title\x07", "line\r\n", "\x1b", "\x9b1m").map(Buffer.from),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(chunk, { maxLength: 12 }), async (chunks) => {
        writeFileSync(path, Buffer.concat(chunks));
        const tail = await consoleTail(path);
        assert.match(tail, /^[\n\x20-\x7e]*$/);
        assert.ok(tail.length <= keptTailCharacters);
        assert.ok(tailForEvent(tail).length <= 1_000);
      }),
      { numRuns: 60 },
    );
    writeFileSync(path, Array.from({ length: 100_000 }, (_, number) => `line ${number}\n`).join(""));
    assert.match(
      await consoleTail(path),
      /^line 99\d+\n[\s\S]*line 99999$/,
      "whole lines, and the last ones",
    );
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test("colours and titles go, with what they carry", () => {
  assert.equal(
    printable("\x1b[1;31mKernel panic\x1b[0m\t- \x1b]0;owned\x07not syncing\r\n"),
    "Kernel panic - not syncing",
  );
});

test("a tail begins with a line, unless one line is all of it", () => {
  assert.equal(lastLines("one\ntwo\nthree", 7), "three");
  assert.equal(lastLines("abcdef", 3), "def");
  assert.equal(lastLines("short", 10), "short");
});
