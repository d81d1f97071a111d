/** Trailers of requests to a guest of HTTP/1.1, from clients of either version. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { connect as connectTls } from "node:tls";
import { sendRaw, startDoor } from "../testing/door.ts";

const host = "web.example.test";

test("trailers of a request reach a guest of HTTP/1.1, and none that would say what they must not", async () => {
  await using door = await startDoor();
  await door.guest(async (request, response) => {
    const body = await text(request);
    response.end(`${body} ${JSON.stringify(request.trailers)}`);
  });
  const head = `POST / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const answer = await sendRaw(door.port, `${head}3\r\nabc\r\n0\r\nX-Sum: 7\r\nAuthorization: no\r\n\r\n`);
  assert.match(answer, /abc {"x-sum":"7"}/);
  const ca = await door.authority();
  const session = connectHttp2(`https://${host}:${door.https}`, {
    createConnection: () =>
      connectTls({ port: door.https, host: "127.0.0.1", servername: host, ca, ALPNProtocols: ["h2"] }),
  });
  const stream = session.request(
    { ":path": "/", ":method": "POST", ":authority": host, ":scheme": "https" },
    { waitForTrailers: true },
  );
  stream.once("wantTrailers", () => stream.sendTrailers({ "x-sum": "8", cookie: "a=b" }));
  stream.end("abc");
  assert.equal(await text(stream), 'abc {"x-sum":"8"}');
  session.close();
  await once(session, "close");
});
