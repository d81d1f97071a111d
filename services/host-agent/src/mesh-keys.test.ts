import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { addMeshKey, dropMeshKey, readMeshKeys } from "./mesh-keys.ts";

test("a key is kept over restarts, root's alone, and is the one that WireGuard makes of the file", () => {
  const dataDir = mkdtempSync(join(tmpdir(), "hearth-keys-"));
  try {
    assert.deepEqual(readMeshKeys(dataDir), []);
    const second = addMeshKey(dataDir, { epoch: 12, port: 51_821 });
    const first = addMeshKey(dataDir, { epoch: 2, port: 51_820 });
    assert.deepEqual(readMeshKeys(dataDir), [first, second], "by epoch");
    assert.notEqual(first.publicKey, second.publicKey);
    for (const { keyPath, publicKey } of [first, second]) {
      assert.equal((statSync(keyPath).mode & 0o777).toString(8), "600");
      const made = execFileSync("wg", ["pubkey"], { input: readFileSync(keyPath), encoding: "utf8" });
      assert.equal(made.trim(), publicKey);
    }
    dropMeshKey(first);
    dropMeshKey(first);
    assert.deepEqual(readMeshKeys(dataDir), [second]);
    assert.equal((statSync(dirname(second.keyPath)).mode & 0o777).toString(8), "700");
    writeFileSync(second.keyPath, "half a k");
    assert.deepEqual(readMeshKeys(dataDir), [], "what is no key is as good as none");
    assert.equal(readdirSync(dirname(second.keyPath)).length, 1);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});
