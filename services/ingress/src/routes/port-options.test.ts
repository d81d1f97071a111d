/** What a service may ask of the front door at a port, as its clients and its guest see it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { startDoor } from "../testing/door.ts";

const host = "web.example.test";
const withHttp = (http_options: object) => ({
  service: { ports: [{ port: 80, handlers: ["http"], http_options }] },
});

async function ask(port: number) {
  const asking = httpRequest({ port, host: "127.0.0.1", headers: { host } }).end();
  const [got] = (await once(asking, "response")) as [IncomingMessage];
  return { headers: got.headers, body: await text(got) };
}

test("headers of an answer are taken out and put in as the service wants", async () => {
  await using door = await startDoor();
  const headers = { Server: false, "X-Frame-Options": "DENY", Link: ["<a>", "<b>"] };
  await door.guest(
    (_request, response) =>
      response.writeHead(200, { server: "guest", "x-frame-options": "NONE", etag: "1" }).end("ok"),
    withHttp({ response: { headers } }),
  );
  const answer = await ask(door.port);
  assert.equal(answer.body, "ok");
  const { server, etag, link } = answer.headers;
  assert.deepEqual([server, etag, link], [undefined, "1", "<a>, <b>"]);
  assert.equal(answer.headers["x-frame-options"], "DENY");
  assert.ok(answer.headers["x-request-id"]);
});

test("a pristine answer has nothing that the guest did not write", async () => {
  await using door = await startDoor();
  await door.guest((_request, response) => response.end("ok"), withHttp({ response: { pristine: true } }));
  assert.equal((await ask(door.port)).headers["x-request-id"], undefined);
});

test("a service has its own time in which nothing may move, shorter or longer than the door's", async () => {
  await using door = await startDoor({ limits: { idleMs: 1_500 } });
  let wait = 0;
  const guest = (_request: IncomingMessage, response: import("node:http").ServerResponse) => {
    response.write("first");
    setTimeout(() => response.end("second"), wait).unref();
  };
  await door.guest(guest, withHttp({ idle_timeout: 1 }));
  wait = 60_000;
  await assert.rejects(ask(door.port));
  await door.guest(guest, withHttp({ idle_timeout: 60 }));
  wait = 3_000;
  assert.equal((await ask(door.port)).body, "firstsecond");
});
