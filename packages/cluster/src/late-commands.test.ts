/** A command whose caller has given up is not begun, wherever it lay meanwhile, and whatever the hosts' clocks say. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { headers } from "@nats-io/nats-core";
import type { Bus } from "./bus.ts";
import { freePort, startTestServer, type TestServer } from "./test-server.ts";

const patientMs = 10_000;
const hastyMs = 400;
const options = { timeout: 60_000 };

const act = (bus: Bus, what: string, timeoutMs: number) =>
  bus.request("n1", "worker", "act", what, { timeoutMs });
const gaveUp = (error: unknown) => error instanceof HearthError && error.code === "deadline_exceeded";

test("a process that was stopped begins nothing that came too late when it goes on", options, async () => {
  await using nats = await startTestServer();
  await using caller = await nats.connect();
  await using serving = await startServing(nats);
  await act(caller, "first", patientMs);
  serving.child.kill("SIGSTOP");
  await assert.rejects(act(caller, "late", hastyMs), gaveUp);
  const patient = act(caller, "in time", patientMs);
  serving.child.kill("SIGCONT");
  await patient;
  assert.deepEqual(await serving.begunUntil("in time"), ["serving", "first", "in time"]);
});

test(
  "clocks of two hosts an hour apart neither refuse what is in time nor let what is late begin",
  options,
  async () => {
    await using nats = await startTestServer();
    await using caller = await nats.connect();
    for (const shift of ["+1h", "-1h"]) {
      await using serving = await startServing(nats, shift);
      const said = Date.parse(String(await act(caller, "first", patientMs)));
      assert.ok(Math.abs(said - Date.now()) > 3_500_000, "its clock is off");
      serving.child.kill("SIGSTOP");
      await assert.rejects(act(caller, "late", hastyMs), gaveUp);
      const patient = act(caller, "in time", patientMs);
      serving.child.kill("SIGCONT");
      await patient;
      assert.deepEqual(await serving.begunUntil("in time"), ["serving", "first", "in time"], shift);
    }
  },
);

test("what lay in the buffers of a connection that stood still is not begun", options, async () => {
  await using nats = await startTestServer();
  await using line = await startLine(nats);
  await using caller = await nats.connect();
  await using server = await nats.connect({ servers: line.url });
  const begun: unknown[] = [];
  await using _serving = server.serve("n1", "worker", { act: (what) => begun.push(what) });
  await server.flush();
  await act(caller, "first", patientMs);
  line.hold();
  await assert.rejects(act(caller, "late", hastyMs), gaveUp);
  const patient = act(caller, "in time", patientMs);
  line.release();
  await patient;
  assert.deepEqual(begun, ["first", "in time"]);
});

test("a process that took another's place begins what is meant for the node, once", options, async () => {
  await using nats = await startTestServer();
  await using caller = await nats.connect();
  {
    await using first = await startServing(nats);
    await act(caller, "one", patientMs);
    assert.deepEqual(await first.begunUntil("one"), ["serving", "one"]);
  }
  await using second = await startServing(nats);
  await act(caller, "two", patientMs);
  assert.deepEqual(await second.begunUntil("two"), ["serving", "two"]);
});

test("a command that says no deadline, or a strange one, is not begun", options, async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  const begun: unknown[] = [];
  await using _serving = bus.serve("n1", "worker", { act: (what) => begun.push(what) });
  await act(bus, "first", patientMs);
  for (const deadline of [undefined, "", "x", "epoch 99999999999", " -1"]) {
    const head = headers();
    if (deadline !== undefined) head.set("Hearth-Deadline", deadline);
    const reply = `_INBOX.${bus.identity}.n1.random`;
    const more = { timeout: patientMs, headers: head, noMux: true, reply };
    const answer = await bus.connection.request("cmd.n1.worker.act", '"x"', more);
    assert.equal(answer.json<{ error: { code: string } }>().error.code, "deadline_exceeded", deadline);
  }
  assert.deepEqual(begun, ["first"]);
});

interface ServingProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  /** The commands that it began, in order, when it has begun this one. */
  begunUntil(last: string): Promise<unknown[]>;
}

async function startServing(nats: TestServer, shift?: string): Promise<ServingProcess> {
  const [library] = globSync("/usr/lib/*/faketime/libfaketimeMT.so.1");
  const wrong = shift === undefined ? {} : { LD_PRELOAD: library, FAKETIME: shift, FAKETIME_DONT_RESET: "1" };
  const program = join(import.meta.dirname, "testing/serving-process.ts");
  const child = spawn(process.execPath, [program, ...nats.login], {
    env: { ...process.env, ...wrong },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  const printed = async (what: string): Promise<void> => {
    const signal = AbortSignal.timeout(patientMs);
    while (!text.includes(`"${what}"\n`)) await once(child.stdout, "data", { signal });
  };
  const begunUntil = async (last: string): Promise<unknown[]> => {
    await printed(last);
    return text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  };
  await printed("serving");
  return {
    child,
    begunUntil,
    async [Symbol.asyncDispose]() {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    },
  };
}

/** A line to the server that can stand still, keeping what comes. */
async function startLine(nats: TestServer) {
  const port = await freePort();
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(new URL(nats.server.url).port), "127.0.0.1");
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) sockets.add(socket.on("error", () => undefined));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `nats://127.0.0.1:${port}`,
    hold: () => sockets.forEach((socket) => void socket.pause()),
    release: () => sockets.forEach((socket) => void socket.resume()),
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
