import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "@hearth/errors";
import type { Bus } from "./bus.ts";
import { type BusStream, maxMessageBytes, windowBytes } from "./bus-stream.ts";
import { openStream, type StreamHandler, serveStreams } from "./stream-open.ts";
import { startTestServer } from "./test-server.ts";

const code = (expected: string) => (error: unknown) =>
  error instanceof HearthError && error.code === expected;
const target = { nodeId: "n1", service: "worker", command: "run" };
const timeoutMs = 3_000;
const text = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString();

async function withStream(
  handler: StreamHandler,
  use: (stream: BusStream, buses: { caller: Bus; node: Bus }) => Promise<void>,
  limits = {},
): Promise<void> {
  await using nats = await startTestServer();
  await using caller = await nats.connect();
  await using node = await nats.connect();
  await using _serving = serveStreams(node, target, { run: handler }, limits);
  await node.flush();
  await use(await openStream(caller, target, { hello: 1 }, { timeoutMs, ...limits }), { caller, node });
}

test("messages keep their borders and order, and each way ends on its own", async () => {
  let payload: unknown;
  const handler: StreamHandler = async (stream, opened) => {
    payload = opened;
    let count = 0;
    for await (const message of stream) {
      count += 1;
      await stream.write(message);
    }
    await stream.write(Buffer.from(`count ${count}`));
  };
  await withStream(handler, async (stream) => {
    for (const word of ["a", "", "ccc"]) await stream.write(Buffer.from(word));
    await stream.end();
    const got: (string | undefined)[] = [];
    for await (const message of stream) got.push(text(message));
    assert.deepEqual(got, ["a", "", "ccc", "count 3"]);
    assert.deepEqual(payload, { hello: 1 });
    assert.equal(await stream.closed, undefined);
  });
});

test("a reader that stops stops the writer within one window, and 64 MiB pass through after", async () => {
  const total = 64 * 1024 * 1024;
  const chunk = 64 * 1024;
  let maxInFlight = 0;
  let written = 0;
  const handler: StreamHandler = async (stream) => {
    const message = new Uint8Array(chunk);
    for (let index = 0; index < total / chunk; index += 1) {
      new DataView(message.buffer).setUint32(0, index);
      await stream.write(message);
      written += chunk;
      maxInFlight = Math.max(maxInFlight, stream.inFlightBytes);
    }
  };
  await withStream(handler, async (stream, { caller, node }) => {
    // The writer fills the window; round trips give it every chance to go past it.
    while (stream.unreadBytes < windowBytes - chunk - 1024) await caller.flush();
    for (let round = 0; round < 20; round += 1) await Promise.all([caller.flush(), node.flush()]);
    assert.ok(written <= windowBytes, `wrote ${written} with nobody reading`);
    assert.ok(stream.unreadBytes <= windowBytes);
    let read = 0;
    for await (const message of stream) {
      assert.equal(new DataView(message.buffer, message.byteOffset).getUint32(0), read / chunk);
      read += message.length;
      assert.ok(stream.unreadBytes <= windowBytes);
    }
    assert.equal(read, total);
    assert.ok(maxInFlight <= windowBytes);
  });
});

test("an error of the handler arrives after what was sent before it", async () => {
  const handler: StreamHandler = async (stream) => {
    await stream.write(Buffer.from("first"));
    throw new HearthError("guest_unreachable");
  };
  await withStream(handler, async (stream) => {
    assert.equal(text(await stream.read()), "first");
    await assert.rejects(stream.read(), code("guest_unreachable"));
    await assert.rejects(stream.write(Buffer.from("x")), code("guest_unreachable"));
  });
});

test("a message over the limit is refused, and a waiting write or read can be cancelled", async () => {
  const handler: StreamHandler = async (stream) => {
    await stream.closed;
  };
  await withStream(handler, async (stream) => {
    await assert.rejects(stream.write(new Uint8Array(maxMessageBytes + 1)), code("payload_too_large"));
    await stream.write(new Uint8Array(maxMessageBytes));
    const signal = AbortSignal.timeout(50);
    await assert.rejects(stream.write(new Uint8Array(maxMessageBytes), { signal }), code("cancelled"));
    await assert.rejects(stream.read({ signal: AbortSignal.timeout(50) }), code("cancelled"));
    stream.fail(new HearthError("cancelled"));
  });
});

test("a peer that vanishes ends the stream at the idle limit", async () => {
  const handler: StreamHandler = async (stream) => {
    await stream.closed;
  };
  const limits = { heartbeatMs: 20, idleLimitMs: 200 };
  await withStream(
    handler,
    async (stream, { node }) => {
      await node.close();
      await assert.rejects(stream.read(), code("unavailable"));
    },
    limits,
  );
});

test("a stream that lost a frame ends instead of passing on a hole", async () => {
  const handler: StreamHandler = async (stream) => {
    await stream.closed;
  };
  await withStream(handler, async (stream, { caller, node }) => {
    const subscription = node.connection.subscribe("stream.*.*.*.node");
    await node.flush();
    await stream.write(Buffer.from("one"));
    for await (const message of subscription) {
      caller.connection.publish(message.subject, message.data); // the same sequence a second time
      break;
    }
    await assert.rejects(stream.read(), code("unavailable"));
  });
});
