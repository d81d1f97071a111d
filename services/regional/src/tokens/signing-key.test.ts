import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readSigningKey, signingKeyFile } from "./signing-key.ts";

test("a key is made once, is private, and stays; a damaged one is named and not replaced", async () => {
  const dir = await mkdtemp(join(tmpdir(), "hearth-key-"));
  try {
    const first = await readSigningKey(dir);
    const path = join(dir, signingKeyFile);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(dir), [signingKeyFile]);
    await chmod(path, 0o644);
    assert.equal((await readSigningKey(dir)).kid, first.kid);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    await writeFile(path, "not a key");
    await assert.rejects(readSigningKey(dir), { code: "invalid_argument", message: /signing-key\.pem/ });
  } finally {
    await rm(dir, { recursive: true });
  }
});
