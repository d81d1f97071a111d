import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { compareVersions, hearthVersion } from "./version.ts";

test("the version is that of the packages", () => {
  for (const path of ["package.json", "cli/package.json"]) {
    const text = readFileSync(resolve(import.meta.dirname, "../../..", path), "utf8");
    assert.equal(JSON.parse(text).version, hearthVersion, path);
  }
});

test("versions are compared by their numbers, and what is none is the oldest", () => {
  assert.ok(compareVersions("0.9.0", "0.10.0") < 0);
  assert.ok(compareVersions("1.0.0", "0.10.9") > 0);
  assert.equal(compareVersions("0.1.0-rc1", "0.1.0"), 0);
  assert.ok(compareVersions("nonsense", "0.0.0") < 0);
});
