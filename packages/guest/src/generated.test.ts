/** What is generated is what the schema says, so that nobody edits one without the other. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const room = join(import.meta.dirname, "..");
const buf = join(room, "../../node_modules/.bin/buf");

const filesIn = (directory: string): Map<string, string> =>
  new Map(
    readdirSync(directory, { recursive: true, encoding: "utf8", withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => [path.slice(directory.length), readFileSync(path, "utf8")]),
  );

test("the generated code is what the schema of the guest's protocol makes today", () => {
  const directory = mkdtempSync(join(tmpdir(), "hearth-gen-"));
  try {
    // The directory comes before that of buf.gen.yaml.
    execFileSync(buf, ["generate", "--output", directory], { cwd: room, timeout: 60_000 });
    const fresh = filesIn(join(directory, "src/gen"));
    assert.ok(fresh.size > 0);
    assert.deepEqual(
      filesIn(join(room, "src/gen")),
      fresh,
      "after a change of the schema: cd packages/guest && ../../node_modules/.bin/buf generate",
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("the schema keeps to the rules of its own lint", () => {
  execFileSync(buf, ["lint"], { cwd: room, timeout: 60_000, stdio: ["ignore", "inherit", "inherit"] });
});
