import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import { startTestServer } from "./test-server.ts";

const code = (expected: string) => (error: unknown) =>
  error instanceof HearthError && error.code === expected;
const timeoutMs = 3_000;

test("a command reaches its handler, and an error keeps its code and details", async () => {
  await using nats = await startTestServer();
  await using a = await nats.connect();
  await using b = await nats.connect();
  await using _serving = b.serve("n1", "worker", {
    echo: (payload) => ({ got: payload }),
    fail: () => {
      throw new HearthError("name_taken", { details: { name: "x" } });
    },
    crash: () => {
      throw new Error("private text");
    },
  });
  await b.flush();
  assert.deepEqual(await a.request("n1", "worker", "echo", { n: 1 }, { timeoutMs }), { got: { n: 1 } });
  await assert.rejects(a.request("n1", "worker", "fail", null, { timeoutMs }), (error) => {
    assert.ok(error instanceof HearthError);
    assert.equal(error.code, "name_taken");
    assert.deepEqual(error.details, { name: "x" });
    return true;
  });
  await assert.rejects(a.request("n1", "worker", "crash", null, { timeoutMs }), (error) => {
    assert.ok(error instanceof HearthError && error.code === "internal");
    assert.ok(!error.message.includes("private text"));
    return true;
  });
  await assert.rejects(a.request("n1", "worker", "other", null, { timeoutMs }), code("not_implemented"));
  await assert.rejects(a.request("*", "worker", "echo", null, { timeoutMs }), code("invalid_argument"));
});

test("no node, a slow node and a caller that leaves have codes of their own", async () => {
  await using nats = await startTestServer();
  await using bus = await nats.connect();
  let handlerSignal: AbortSignal | undefined;
  await using _serving = bus.serve("n1", "worker", {
    hang: (_payload, { signal }) => {
      handlerSignal = signal;
      return new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    },
  });
  await assert.rejects(bus.request("n2", "worker", "x", null, { timeoutMs }), code("unavailable"));
  await assert.rejects(
    bus.request("n1", "worker", "hang", null, { timeoutMs: 100 }),
    code("deadline_exceeded"),
  );
  assert.ok(handlerSignal);
  const leave = new AbortController();
  const call = bus.request("n1", "worker", "hang", null, { timeoutMs, signal: leave.signal });
  leave.abort();
  await assert.rejects(call, code("cancelled"));
});

test("a served node answers again after the server is killed and started", async () => {
  await using nats = await startTestServer();
  await using a = await nats.connect();
  await using b = await nats.connect();
  await using _serving = b.serve("n1", "worker", { ping: () => "pong" });
  await b.flush();
  await nats.server.stop("SIGKILL");
  await nats.server.start();
  const limit = AbortSignal.timeout(10_000);
  let answer: unknown;
  while (answer === undefined) {
    limit.throwIfAborted();
    // Until both have reconnected the call is refused with a retryable code, and nothing else.
    answer = await a.request("n1", "worker", "ping", null, { timeoutMs: 200 }).catch((error: unknown) => {
      assert.ok(error instanceof HearthError && error.retryable);
    });
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(answer, "pong");
});
