/** Guests that answer before they have read a request, or say more than they should: raw TCP, as programs do it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { startDoor } from "../testing/door.ts";
import { rawGuest } from "../testing/raw-guest.ts";

const host = "web.example.test";
const answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";

/** Sends on until it has an answer, as most clients do. */
async function upload(port: number, headers: Record<string, string>) {
  const asking = httpRequest({ port, host: "127.0.0.1", method: "POST", headers: { host, ...headers } });
  asking.on("error", () => undefined);
  const answered = once(asking, "response") as Promise<[IncomingMessage]>;
  const chunk = Buffer.alloc(64 * 1024);
  let isOver = false;
  void answered.then(
    () => (isOver = true),
    () => (isOver = true),
  );
  const more = (): void => {
    while (!isOver && asking.write(chunk));
    if (!isOver) asking.once("drain", more);
  };
  more();
  const [got] = await answered;
  const body = await text(got);
  asking.destroy();
  return `${got.statusCode} ${body}`;
}

const framings = {
  "a length": { "content-length": "1000000000" },
  chunked: { "transfer-encoding": "chunked" },
};

for (const [name, headers] of Object.entries(framings)) {
  test(`an answer by a guest that closes while the body still comes is delivered (${name})`, async () => {
    await using door = await startDoor({ limits: { lingerMs: 200 } });
    // It never reads: what is left unread when it closes has its kernel reset the connection.
    const guest = await rawGuest(door, (socket) => {
      socket.on("error", () => undefined);
      socket.once("readable", () => socket.write(answer, () => socket.destroy()));
    });
    for (let round = 0; round < 20; round += 1)
      assert.equal(await upload(door.port, headers), "413 too much", `round ${round}`);
    guest.close();
  });

  test(`an answer by a guest that ends its direction and reads on is delivered (${name})`, async () => {
    await using door = await startDoor({ limits: { lingerMs: 200 } });
    const guest = await rawGuest(door, (socket) => {
      socket.on("error", () => undefined).resume();
      socket.once("data", () => socket.end(answer));
    });
    assert.equal(await upload(door.port, headers), "413 too much");
    guest.close();
  });

  test(`a guest that resets without an answer is answered for (${name})`, async () => {
    await using door = await startDoor({ limits: { lingerMs: 200 } });
    const guest = await rawGuest(door, (socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.resetAndDestroy());
    });
    assert.match(await upload(door.port, headers), /^502 /);
    guest.close();
  });
}

test("a guest that says more than its answer, or less, never spoils the next one", async () => {
  await using door = await startDoor();
  const answers = [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworse",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
    "HTTP/1.1 204 No Content\r\n\r\nbody of nothing",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nbody",
  ];
  const good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
  let current = good;
  const guest = await rawGuest(door, (socket) => {
    socket.on("error", () => undefined);
    socket.on("data", () => socket.write(current));
  });
  const get = async () => {
    const asking = httpRequest({ port: door.port, host: "127.0.0.1", headers: { host } }).end();
    const [got] = (await once(asking, "response")) as [IncomingMessage];
    return text(got).catch(() => "");
  };
  for (const bad of answers) {
    current = bad;
    assert.doesNotMatch(await get(), /worse|more|body/);
    current = good;
    assert.equal(await get(), "good", bad);
  }
  guest.close();
});
