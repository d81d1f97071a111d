/** What a client and a guest may take of the front door: time, bytes and connections. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ask, begin, testHost as host } from "../testing/client.ts";
import { sendRaw, startDoor } from "../testing/door.ts";

test("a guest that does not answer is answered for, and its client is not kept for ever", async () => {
  await using door = await startDoor({ limits: { answerMs: 1_000 } });
  await door.guest(() => undefined);
  const { status, headers } = await ask(door.port);
  assert.deepEqual([status, headers["hearth-reason"]], [504, "guest_slow"]);
});

test("a client that is slow with its headers is closed, and a body beyond the limit is refused", async () => {
  await using door = await startDoor({ limits: { headersMs: 300, bodyBytes: 10, lingerMs: 100 } });
  await door.guest(async (request, response) => response.end(await text(request).catch(() => "")));
  assert.match(await sendRaw(door.port, `GET / HTTP/1.1\r\nHost: ${host}\r\nX: `), /^HTTP\/1\.1 408 /);
  const stated = begin(door.port, { method: "POST", headers: { "content-length": "11" } });
  stated.asking.on("error", () => undefined).flushHeaders();
  assert.equal((await stated.answer).statusCode, 413);
  stated.asking.destroy();
  const chunked = begin(door.port, { method: "POST" });
  chunked.asking.on("error", () => undefined).write("0123456789a");
  assert.equal((await chunked.answer).statusCode, 413);
  chunked.asking.destroy();
});

test("a connection on which nothing moves is closed", async () => {
  await using door = await startDoor({ limits: { idleMs: 300 } });
  await door.guest((_request, response) => response.write("and no more"));
  await assert.rejects(ask(door.port));
});

test("a guest may take longer for its answer than a connection may be idle", async () => {
  await using door = await startDoor({ limits: { idleMs: 300 } });
  await door.guest((request, response) => {
    request.resume().on("end", () => setTimeout(() => response.end(request.method), 1_200));
  });
  const asked = [ask(door.port), ask(door.port, { method: "POST" }, "body")];
  // In two pieces it is not on the short path.
  const piecemeal = connect({ port: door.port, host: "127.0.0.1", noDelay: true });
  piecemeal.write("GET / HTTP/1.1\r\nConnection: close\r\n");
  await delay(50);
  piecemeal.write(`Host: ${host}\r\n\r\n`);
  assert.match(await text(piecemeal), /^HTTP\/1\.1 200 OK[\s\S]*GET$/);
  assert.deepEqual(
    (await Promise.all(asked)).map(({ body }) => body),
    ["GET", "POST"],
  );
});

test("one source has only so many connections, and all together have so many", async () => {
  await using door = await startDoor({ limits: { connectionsPerSource: 2 } });
  await door.guest((_request, response) => response.end("hello"));
  const first = [connect(door.port, "127.0.0.1"), connect(door.port, "127.0.0.1")];
  for (const socket of first) await once(socket, "connect");
  const third = connect(door.port, "127.0.0.1");
  third.on("error", () => undefined);
  third.resume();
  await once(third, "close");
  for (const socket of first) socket.destroy();
  for (const socket of first) socket.destroyed || (await once(socket, "close"));
  let status: number | undefined;
  // The door learns of a close a moment after this side.
  for (let tries = 0; status === undefined && tries < 100; tries += 1) {
    status = (await ask(door.port).catch(() => undefined))?.status;
    if (status === undefined) await delay(10);
  }
  assert.equal(status, 200);
});
