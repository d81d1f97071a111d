import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const module = join(import.meta.dirname, "leave-nothing.ts");
const program = `
  import { rmSync } from "node:fs";
  import { setTimeout as delay } from "node:timers/promises";
  import { leaveNothing } from ${JSON.stringify(module)};
  const [, one, other, kept] = process.argv;
  const undo = (path) => async () => { await delay(20); rmSync(path); };
  leaveNothing(undo(one));
  leaveNothing(undo(other));
  leaveNothing(undo(kept))[Symbol.dispose]();
  console.log("made");
  setInterval(() => undefined, 1_000);`;

for (const signal of ["SIGINT", "SIGTERM"] as const)
  test(`a process that ${signal} ends takes away first what it has not taken away itself`, {
    timeout: 20_000,
  }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "hearth-leave-"));
    try {
      const paths = ["one", "other", "kept"].map((name) => join(directory, name));
      for (const path of paths) writeFileSync(path, "");
      const child = spawn(process.execPath, ["--input-type=module", "-e", program, ...paths]);
      await once(child.stdout, "data");
      child.kill(signal);
      assert.deepEqual(await once(child, "exit"), [130, null]);
      assert.deepEqual(paths.map(existsSync), [false, false, true]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
