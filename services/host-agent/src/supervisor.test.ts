import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createLogger } from "@hearth/telemetry";
import { LogFile } from "./log-file.ts";
import { identify, isAlive } from "./process-identity.ts";
import { ChildService } from "./service-process.ts";
import { Supervisor, type SupervisorOptions } from "./supervisor.ts";
import { until } from "./testing/test-host.ts";

const logger = createLogger("test", {}, { level: "silent" });

function supervise(script: string, options: Partial<SupervisorOptions> = {}) {
  const directory = mkdtempSync(join(tmpdir(), "hearth-supervisor-"));
  const log = new LogFile(join(directory, "one.log"));
  const create = () =>
    new ChildService({
      command: process.execPath,
      args: ["-e", script],
      env: { DIRECTORY: directory },
      log,
      stopLimitMs: 500,
    });
  const supervisor = new Supervisor({ name: "one", create, logger, ...options });
  return {
    supervisor,
    directory,
    log: () => readFileSync(log.path, "utf8"),
    [Symbol.asyncDispose]: async () => {
      await supervisor.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

test("a service that crashes is started again, later each time, and its ends are told", async () => {
  const pauses: number[] = [];
  const watched = createLogger(
    "test",
    {},
    {
      destination: { write: (line) => pauses.push(JSON.parse(line).wait_ms) },
    },
  );
  await using one = supervise("console.log('here'); process.exit(7)", {
    logger: watched,
    backoffMs: { first: 5, limit: 30 },
  });
  one.supervisor.start();
  await until(() => one.supervisor.status().restarts >= 4);
  await one.supervisor.stop();
  assert.deepEqual(pauses.slice(0, 4), [5, 10, 20, 30]);
  const { last_exit, state, pid } = one.supervisor.status();
  assert.deepEqual({ last_exit, state, pid }, { last_exit: "exit code 7", state: "stopped", pid: null });
  assert.ok(one.log().startsWith("here\nhere\n"));
});

test("why a service refused to start is in its status, in its own words, and only of that life", async () => {
  const fatal = (msg: string) =>
    `console.log(JSON.stringify({ level: "fatal", time: new Date().toISOString(), msg: "${msg}" }))`;
  await using one = supervise(
    `const { existsSync, writeFileSync } = require("node:fs");
     const marker = process.env.DIRECTORY + "/second";
     if (!existsSync(marker)) { writeFileSync(marker, ""); ${fatal("the database is damaged")}; }
     console.log("last words"); process.exit(1)`,
    { backoffMs: { first: 300, limit: 300 } },
  );
  one.supervisor.start();
  await until(() => one.supervisor.status().last_exit !== null);
  assert.equal(one.supervisor.status().last_exit, "exit code 1: the database is damaged");
  await until(() => one.supervisor.status().restarts >= 1 && one.supervisor.status().state === "backoff");
  assert.equal(one.supervisor.status().last_exit, "exit code 1");
});

test("a long life clears the row of failures", async () => {
  const pauses: number[] = [];
  const watched = createLogger(
    "test",
    {},
    {
      destination: { write: (line) => pauses.push(JSON.parse(line).wait_ms) },
    },
  );
  await using one = supervise("process.kill(process.pid, 'SIGKILL')", {
    logger: watched,
    backoffMs: { first: 5, limit: 1000 },
    healthyAfterMs: 0,
  });
  one.supervisor.start();
  await until(() => pauses.length >= 3);
  assert.deepEqual(pauses.slice(0, 3), [5, 5, 5]);
  assert.equal(one.supervisor.status().last_exit, "signal SIGKILL");
});

test("stop kills a service that does not end, and it is not started again", async () => {
  await using one = supervise(
    "process.on('SIGTERM', () => console.log('no')); console.log('up'); setInterval(() => {}, 1000)",
  );
  one.supervisor.start();
  await until(() => one.log().includes("up"));
  const identity = identify(one.supervisor.status().pid ?? 0);
  assert.ok(identity !== undefined && isAlive(identity));
  await one.supervisor.stop();
  assert.equal(isAlive(identity), false);
  assert.equal(one.log(), "up\nno\n");
  assert.equal(one.supervisor.status().restarts, 0);
});

test("a program that is not there is tried again until it is", async () => {
  const directory = mkdtempSync(join(tmpdir(), "hearth-supervisor-"));
  const command = join(directory, "program");
  const log = new LogFile(join(directory, "log"));
  const supervisor = new Supervisor({
    name: "late",
    create: () => new ChildService({ command, args: [], env: {}, log, stopLimitMs: 500 }),
    logger,
    backoffMs: { first: 5, limit: 5 },
  });
  supervisor.start();
  await until(() => supervisor.status().restarts > 1);
  assert.match(supervisor.status().last_exit ?? "", /ENOENT/);
  writeFileSync(command, "#!/bin/sh\nexec sleep 60\n", { mode: 0o755 });
  await until(() => supervisor.status().state === "running");
  await supervisor.stop();
  rmSync(directory, { recursive: true, force: true });
});

test("a log is cut when it is over its limit, and what writes to it goes on", async () => {
  await using one = supervise("setInterval(() => console.log('x'.repeat(99)), 1)");
  one.supervisor.start();
  const log = new LogFile(join(one.directory, "one.log"), 1000);
  const size = () => one.log().length;
  await until(() => size() > 1000);
  log.shorten();
  await until(() => size() > 300);
  assert.ok(one.log().startsWith("x"), "appended at the new end, not after a hole");
  assert.ok(readFileSync(join(one.directory, "one.log.1"), "utf8").length > 1000);
});
