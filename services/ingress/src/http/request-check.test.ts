/** What could be read in two ways, or as two requests: each refused, and no byte of it at a guest. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bodies, corpus, host } from "../testing/corpus.ts";
import { sendRaw, startDoor } from "../testing/door.ts";

test("a request that could be read in two ways is refused, and no guest sees it", async () => {
  await using door = await startDoor();
  const seen: string[] = [];
  await door.guest((request, response) => {
    seen.push(request.url ?? "");
    response.end("from the guest");
  });
  for (const [name, bytes] of Object.entries(corpus)) {
    const answer = await sendRaw(door.port, bytes);
    assert.match(answer, /^HTTP\/1\.1 (400|405|431|501|505) /, name);
    assert.equal(answer.split("HTTP/1.1 ").length <= 2, true, `${name}: one answer at most`);
    assert.doesNotMatch(answer, /from the guest/, name);
  }
  assert.deepEqual(seen, []);
});

test("what is wrong in a body ends the connection, and is no second request", async () => {
  await using door = await startDoor();
  const seen: string[] = [];
  await door.guest((request, response) => {
    seen.push(request.url ?? "");
    request.on("error", () => undefined).resume();
    request.on("end", () => response.end("whole"));
  });
  for (const [name, bytes] of Object.entries(bodies)) {
    const answer = await sendRaw(door.port, bytes);
    assert.doesNotMatch(answer, /whole/, name);
  }
  assert.equal(seen.includes("/smuggled"), false);
});

test("what is unusual and clear is forwarded, in the form that guests expect", async () => {
  await using door = await startDoor();
  await door.guest((request, response) =>
    response.end(`${request.method} ${request.url} ${request.headers.host}`),
  );
  const close = "Connection: close\r\n\r\n";
  const ask = async (head: string) =>
    (await sendRaw(door.port, `${head}${close}`)).split("\r\n\r\n")[1] ?? "";
  assert.match(await ask(`GET http://web.example.test/a?b HTTP/1.1\r\n${host}`), /GET \/a\?b web/);
  assert.match(await ask(`GET /a|b{c}%00 HTTP/1.1\r\n${host}`), /GET \/a\|b\{c\}%00 web/);
  assert.match(await ask("GET / HTTP/1.1\r\nHost: WEB.example.test:80\r\n"), /WEB\.example/);
  const two = `GET /1 HTTP/1.1\r\n${host}\r\nGET /2 HTTP/1.1\r\n${host}${close}`;
  assert.match(await sendRaw(door.port, two), /GET \/1 [\s\S]*GET \/2 /);
});
