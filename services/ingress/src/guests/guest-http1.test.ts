/** Connections of HTTP/1.1 to guests: what is kept, what is sent again, and what of an answer is believed. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { until } from "@hearth/testkit";
import { ask, begin } from "../testing/client.ts";
import { startDoor } from "../testing/door.ts";
import { rawGuest, scriptedGuest } from "../testing/raw-guest.ts";

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

test("connections are kept, and one that the guest closed meanwhile costs no request that may be repeated", async () => {
  await using door = await startDoor();
  using guest = await scriptedGuest(door, (_head, { request }) => (request === 2 ? undefined : ok));
  assert.equal((await ask(door.port)).body, "ok");
  assert.equal(guest.connections, 1);
  assert.equal((await ask(door.port)).body, "ok", "sent again on a new connection");
  assert.deepEqual([guest.connections, guest.heads.length], [2, 3]);
  // Whether it was acted on is not known.
  const post = await ask(door.port, { method: "POST", headers: { "content-length": "0" } });
  assert.deepEqual([post.status, post.headers["hearth-reason"]], [502, "guest_broke"]);
});

test("an answer that has begun is not asked for again", async () => {
  await using door = await startDoor();
  using guest = await scriptedGuest(door, (head, { request }) =>
    request === 1 || head.includes("/other") ? ok : "HTTP/1.1 2",
  );
  await ask(door.port);
  const asked = ask(door.port);
  await until("it has begun to answer", 10_000, async () => guest.heads.length === 2 || undefined);
  // The door has read it when it has read what came behind it on another connection.
  await ask(door.port, { path: "/other" });
  guest.cut();
  assert.equal((await asked).status, 502);
  assert.equal(guest.heads.length, 3);
});

const many = Array.from({ length: 70 }, (_, at) => `X-${at}: ${at}\r\n`).join("");
const answers: Readonly<Record<string, readonly [answer: string, seen: object]>> = {
  "after interim ones": [
    `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${ok}`,
    { status: 200, body: "ok" },
  ],
  "of many headers": [
    `HTTP/1.1 200 OK\r\n${many}Content-Length: 2\r\n\r\nok`,
    { status: 200, body: "ok", last: "69" },
  ],
  "in chunks, with trailers": [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX-Sum: 3\r\n\r\n",
    { status: 200, body: "ok", sum: "3" },
  ],
  "without a body": ["HTTP/1.1 204 No Content\r\n\r\n", { status: 204, body: "" }],
};
for (const [name, [answer, seen]] of Object.entries(answers))
  test(`an answer ${name} is read, and its connection kept`, async () => {
    await using door = await startDoor();
    using guest = await scriptedGuest(door, () => answer);
    for (let round = 0; round < 2; round += 1) {
      const { status, body, headers, trailers } = await ask(door.port);
      const [last, sum] = [headers["x-69"], trailers["x-sum"]];
      assert.deepEqual({ status, body, ...(last && { last }), ...(sum && { sum }) }, seen);
    }
    assert.equal(guest.connections, 1);
  });

test("an answer that ends with its connection is whole, and one that ends before its length is not", async () => {
  await using door = await startDoor();
  let text = "HTTP/1.1 200 OK\r\n\r\nok";
  const guest = await rawGuest(door, (socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.end(text));
  });
  assert.equal((await ask(door.port)).body, "ok");
  text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok";
  await assert.rejects(ask(door.port));
  guest.close();
});

const wrong: Readonly<Record<string, string>> = {
  "a coding that nobody undoes": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
  "another protocol, unasked": "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nok",
  "another protocol, not even named": "HTTP/1.1 101 Switching\r\n\r\nok",
  "a head without end": `HTTP/1.1 200 OK\r\nX: ${"x".repeat(40_000)}`,
  "no HTTP": "hello",
};
for (const [name, text] of Object.entries(wrong))
  test(`an answer is refused that is ${name}`, async () => {
    await using door = await startDoor();
    using guest = await scriptedGuest(door, () => text);
    const { status, headers } = await ask(door.port);
    assert.deepEqual([status, headers["hearth-reason"]], [502, "guest_invalid"]);
    await until("its connection is closed", 10_000, async () => guest.open === 0 || undefined);
  });

for (const unasked of ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "evil", "HTT"])
  test(`what a guest says unasked is nobody's answer (${unasked.length} bytes)`, async () => {
    await using door = await startDoor();
    using guest = await scriptedGuest(door, () => ok + unasked);
    for (let round = 0; round < 3; round += 1)
      assert.equal((await ask(door.port, { method: "POST", headers: { "content-length": "0" } })).body, "ok");
    assert.equal(guest.connections, 3, "such a connection is not used again");
  });

test("requests beyond the connections that there may be wait for one", async () => {
  await using door = await startDoor({ limits: { guestConnections: 1 } });
  using guest = await scriptedGuest(door, () => ok);
  const answered = await Promise.all(Array.from({ length: 20 }, () => ask(door.port)));
  assert.deepEqual([...new Set(answered.map(({ body }) => body))], ["ok"]);
  assert.equal(guest.connections, 1);
});

test("a connection that is idle is closed before the guest would close it", async () => {
  await using door = await startDoor({ limits: { guestKeepAliveMs: 100 } });
  using guest = await scriptedGuest(door, () => ok);
  await ask(door.port);
  await until("it is closed", 10_000, async () => guest.open === 0 || undefined);
  assert.equal((await ask(door.port)).body, "ok");
});

test("a guest whose client reads nothing is not read of either", async () => {
  await using door = await startDoor();
  const [chunk, total] = [Buffer.alloc(1024 * 1024, "x"), 64];
  let sent = 0;
  const guest = await rawGuest(door, (socket) => {
    socket.on("error", () => undefined);
    socket.once("data", async () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${chunk.length * total}\r\n\r\n`);
      for (; sent < total && !socket.destroyed; sent += 1)
        if (!socket.write(chunk)) await once(socket, "drain").catch(() => undefined);
      socket.end();
    });
  });
  const { asking, answer } = begin(door.port);
  asking.end();
  const got = await answer;
  got.pause();
  let before = -1;
  await until("nothing moves", 20_000, async () => {
    const now = sent;
    const isStill = now === before && now > 0;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return isStill && sent === now ? true : undefined;
  });
  assert.ok(sent < total / 2, `${sent} MiB were taken for a client that took none`);
  let received = 0;
  for await (const bytes of got) received += (bytes as Buffer).length;
  assert.equal(received, chunk.length * total);
  guest.close();
});
