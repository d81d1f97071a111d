import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { MachineLog } from "./machine-log.ts";

const boot = "boot";
const pieces = 400;
const piece = (seq: number) => ({
  boot,
  seq,
  timeMs: 0,
  stream: "stdout" as const,
  data: Buffer.alloc(1024, seq),
});

/** Rotates after some twenty pieces. */
function smallLog(context: TestContext): MachineLog {
  const directory = mkdtempSync(join(tmpdir(), "hearth-log-"));
  const log = new MachineLog(directory, 32 * 1024);
  context.after(async () => {
    await log.close();
    rmSync(directory, { recursive: true });
  });
  return log;
}

test("a reader that is waited for gets every piece over many rotations, however slow it is", async (context) => {
  const log = smallLog(context);
  let written = false;
  const writing = (async () => {
    for (let seq = 0; seq < pieces; seq += 1) await log.append(piece(seq));
    written = true;
    log.wake();
  })();
  const signal = AbortSignal.timeout(30_000);
  const seen: (number | undefined)[] = [];
  for await (const { guest_seq } of log.read(
    { boot, follow: true, waitedFor: true, signal },
    () => written,
  )) {
    seen.push(guest_seq);
    // Others run as far as they get between two pieces of this reader.
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  }
  await writing;
  assert.deepEqual(
    seen,
    Array.from({ length: pieces }, (_, seq) => seq),
  );
});

test("a reader that stands still stops nobody, and begins again where output is left", async (context) => {
  const log = smallLog(context);
  const signal = AbortSignal.timeout(30_000);
  let written = false;
  await log.append(piece(0));
  const reading = log.read({ boot, follow: true, waitedFor: true, signal }, () => written);
  assert.equal((await reading.next()).value?.guest_seq, 0);
  for (let seq = 1; seq < pieces; seq += 1) await log.append(piece(seq));
  written = true;
  log.wake();
  const rest = (await Array.fromAsync(reading)).map(({ guest_seq }) => guest_seq ?? -1);
  assert.equal(rest.at(-1), pieces - 1);
  assert.ok(rest.length < pieces - 1, "some of it is gone");
  assert.deepEqual(
    rest,
    rest.toSorted((a, b) => a - b),
  );
});
