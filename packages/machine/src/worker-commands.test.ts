import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseMachineConfig } from "./config.ts";
import { parseWorkerCommand, workerCommandNames } from "./worker-commands.ts";

const machine_id = "000102ff040506";

test("the commands of a worker are these", () => {
  assert.deepEqual([...workerCommandNames].sort(), [
    ...["commit", "cordon", "destroy", "events", "explain"],
    ...["file-list", "file-mkdir", "file-remove", "file-rename", "file-stat"],
    ...["forget", "get", "inspect", "keep"],
    ...["lease-acquire", "lease-get", "lease-release", "list", "ps", "reserve"],
    ...["restart", "set-metadata", "signal", "start", "stop", "uncordon", "update", "versions"],
    "wake",
    "yield",
  ]);
});

test("a commit carries what parseMachineConfig answers", () => {
  const config = parseMachineConfig({ image: "app:1", stop_config: { timeout: "5" } });
  const request = {
    machine_id,
    instance_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    app: "web",
    name: "quiet-1",
    region: "local",
    network: 7,
    config,
    launch: true,
    fence: 7,
  };
  assert.deepEqual(parseWorkerCommand("commit", request), { name: "commit", request });
});

test("other names and shapes are refused by name", () => {
  assert.throws(() => parseWorkerCommand("toString", {}), { code: "not_implemented" });
  assert.throws(() => parseWorkerCommand("start", {}), { code: "invalid_argument" });
  assert.throws(() => parseWorkerCommand("stop", { machine_id, signal: 65 }), { code: "invalid_argument" });
  assert.throws(() => parseWorkerCommand("get", { machine_id: "../x" }), { code: "invalid_argument" });
});

test("nothing but a HearthError comes out of a request that is not valid", () => {
  fc.assert(
    fc.property(fc.constantFrom(...workerCommandNames), fc.jsonValue(), (name, request) => {
      try {
        parseWorkerCommand(name, request);
      } catch (error) {
        assert.equal((error as Error).name, "HearthError");
      }
    }),
  );
});
