import assert from "node:assert/strict";
import { test } from "node:test";
import { servicesHealth } from "./services-health.ts";
import type { ServiceStatus } from "./supervisor.ts";

const service = (name: string, changes: Partial<ServiceStatus> = {}): ServiceStatus => ({
  ...{ name, state: "running", pid: 1, restarts: 0, started_at_ms: 1, last_exit: null },
  ...changes,
});

test("services that run and answer are nothing to tell", () => {
  assert.deepEqual(servicesHealth([service("images"), service("regional")], {}), {
    problems: [],
    warnings: [],
  });
});

test("images that fail are a problem of the node, and an API that fails is a warning", () => {
  const ended = { state: "backoff", last_exit: "exit code 1" } as const;
  const told = servicesHealth([service("images", ended), service("regional", ended)], {});
  assert.deepEqual(told.problems, ["images ended (exit code 1) and is started again."]);
  assert.deepEqual(told.warnings, ["regional ended (exit code 1) and is started again."]);
});

test("what the API says of the node is not told back to it", () => {
  const problems = { regional: "regional: images does not answer", images: "images: silent" };
  assert.deepEqual(servicesHealth([service("images"), service("regional")], problems), {
    problems: ["images: silent"],
    warnings: [],
  });
});
