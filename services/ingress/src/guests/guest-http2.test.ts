/** HTTP/2 to guests, with servers that have few streams, go away, refuse, reset, or speak something else. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect as connectHttp2, constants, createServer, type Http2Server } from "node:http2";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { promisify } from "node:util";
import { sendRaw, startDoor } from "../testing/door.ts";
import { machineId } from "../testing/facts.ts";
import {
  ack,
  endHeaders,
  frame,
  frameType,
  headerBlock,
  preface,
  readFrames,
  uint32,
} from "../testing/frames.ts";
import { type Door, putHttp2Guest } from "../testing/http2-guest.ts";

const host = "web.example.test";
/** A guest that speaks HTTP/2 as this test wants it. */
async function http2Guest(door: Door, set: (server: Http2Server) => void, id?: string) {
  const server = createServer();
  set(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  putHttp2Guest(door, (server.address() as AddressInfo).port, id);
  return {
    server,
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}

async function clientOf(door: Door) {
  const session = connectHttp2(`https://${host}:${door.https}`, {
    ...{ host: "127.0.0.1", servername: host, ca: await door.authority() },
    createConnection: undefined as never,
    lookup: (_name: string, _options: unknown, done: (...args: unknown[]) => void) =>
      done(null, [{ address: "127.0.0.1", family: 4 }]),
  } as never);
  session.on("error", () => undefined);
  return session;
}

test("requests wait where the guest allows no more streams, and GOAWAY sends them to the next connection", async () => {
  await using door = await startDoor({ limits: { guestHttp2Connections: 1 } });
  let open = 0;
  let most = 0;
  let sessions = 0;
  await using _guest = await http2Guest(door, (server) => {
    (server as unknown as { updateSettings?: (settings: object) => void }).updateSettings?.({
      maxConcurrentStreams: 2,
    });
    server.on("session", () => {
      sessions += 1;
    });
    server.on("stream", (stream, headers) => {
      open += 1;
      most = Math.max(most, open);
      setTimeout(() => {
        open -= 1;
        stream.respond({ ":status": 200 });
        stream.end("done");
        if (headers[":path"] === "/last") stream.session?.close();
      }, 20);
    });
  });
  const client = await clientOf(door);
  const ask = async (path: string) => {
    const stream = client.request({ ":path": path, ":authority": host });
    const [headers] = (await once(stream, "response")) as [{ ":status": number }];
    let text = "";
    for await (const chunk of stream) text += chunk;
    return `${headers[":status"]} ${text}`;
  };
  const all = await Promise.all(Array.from({ length: 12 }, () => ask("/")));
  assert.deepEqual(new Set(all), new Set(["200 done"]));
  assert.equal(most, 2);
  assert.equal(sessions, 1);
  const more = await Promise.all(
    Array.from({ length: 12 }, (_each, index) => ask(index === 3 ? "/last" : "/")),
  );
  assert.deepEqual(new Set(more), new Set(["200 done"]));
  assert.equal(sessions, 2);
  client.destroy();
});

test("where one connection has as many streams as the guest allows, a second one is made", async () => {
  await using door = await startDoor({ limits: { guestHttp2Connections: 2 } });
  const open = new Set<() => void>();
  await using _guest = await http2Guest(door, (server) => {
    server.updateSettings({ maxConcurrentStreams: 2 });
    server.on("stream", (stream) => {
      open.add(() => {
        stream.respond({ ":status": 200 });
        stream.end("done");
      });
      // Nothing is answered before all four are there.
      if (open.size === 4) for (const answer of open) answer();
    });
  });
  const client = await clientOf(door);
  const all = Array.from({ length: 4 }, () => client.request({ ":path": "/", ":authority": host }));
  for (const stream of all) for await (const chunk of stream) assert.equal(String(chunk), "done");
  client.destroy();
});

test("what a guest refused is sent again with its body, and what it reset is not", async () => {
  await using door = await startDoor();
  const seen: string[] = [];
  await using _guest = await http2Guest(door, (server) =>
    server.on("stream", async (stream, headers) => {
      let body = "";
      stream.on("error", () => undefined);
      for await (const chunk of stream) body += chunk;
      seen.push(`${headers[":path"]} ${body}`);
      if (seen.length === 1) stream.close(constants.NGHTTP2_REFUSED_STREAM);
      else if (headers[":path"] === "/reset") stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      else {
        stream.respond({ ":status": 200 });
        stream.end(body);
      }
    }),
  );
  const client = await clientOf(door);
  const post = async (path: string) => {
    const stream = client.request({ ":path": path, ":method": "POST", ":authority": host });
    stream.on("error", () => undefined);
    stream.end("body");
    const [headers] = (await once(stream, "response")) as [{ ":status": number }];
    let text = "";
    stream.on("data", (chunk) => {
      text += chunk;
    });
    await once(stream, "close");
    return [headers[":status"], text, stream.rstCode];
  };
  assert.deepEqual(await post("/first"), [200, "body", 0]);
  assert.deepEqual(seen, ["/first body", "/first body"]);
  assert.equal((await post("/reset"))[0], 502);
  assert.equal(seen.length, 3, "it may have been acted on");
  client.destroy();
});

test("an answer that the guest resets in its middle never looks whole, and its code is passed on", async () => {
  await using door = await startDoor();
  let ending: number = constants.NGHTTP2_ENHANCE_YOUR_CALM;
  const fields: [string, string][] = [[":status", "200"]];
  const server = createTcpServer((socket) => {
    socket.write(Buffer.concat([frame(frameType.settings, 0, 0), frame(frameType.settings, ack, 0)]));
    let isPreface = true;
    const peer = new PassThrough();
    socket
      .on("error", () => undefined)
      .on("data", (chunk: Buffer) => {
        peer.write(isPreface ? chunk.subarray(preface.length) : chunk);
        isPreface = false;
      });
    readFrames(peer, ({ type, stream }) => {
      if (type !== frameType.headers) return;
      const head = frame(frameType.headers, endHeaders, stream, headerBlock(fields));
      socket.write(Buffer.concat([head, frame(frameType.data, 0, stream, "half")]));
      setTimeout(() => socket.write(frame(frameType.rstStream, 0, stream, uint32(ending))), 50);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  putHttp2Guest(door, (server.address() as AddressInfo).port);
  const client = await clientOf(door);
  const stream = client.request({ ":path": "/", ":authority": host });
  stream.on("error", () => undefined).resume();
  await new Promise<void>((resolve) => stream.once("close", () => resolve()));
  assert.equal(stream.rstCode, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  client.destroy();
  const plain = await sendRaw(door.port, `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  assert.match(plain, /half\r\n$/, "the last chunk is missing");
  // Without an error, and before all that was announced.
  ending = constants.NGHTTP2_NO_ERROR;
  fields.push(["content-length", "100"]);
  const short = await sendRaw(door.port, `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  assert.match(short, /content-length: 100\r\n[\s\S]*half$/);
  server.close();
});

test("a guest that speaks no HTTP/2 is found out, and harms nobody", async () => {
  await using door = await startDoor({ limits: { connectMs: 500 } });
  for (const [id, greeting] of [
    [machineId(1), "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"],
    [machineId(2), ""],
  ] as const) {
    const server = createTcpServer((socket) => {
      socket.on("error", () => undefined).resume();
      if (greeting !== "") socket.end(greeting);
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    putHttp2Guest(door, (server.address() as AddressInfo).port, id);
    const answer = await sendRaw(door.port, `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 502 /);
    server.close();
  }
});

test("curl gets HTTP/2 through to the guest, trailers and all, and so does a client of HTTP/1.1", async () => {
  await using door = await startDoor();
  await using _guest = await http2Guest(door, (server) =>
    server.on("request", async (request, response) => {
      let bytes = 0;
      for await (const chunk of request) bytes += (chunk as Buffer).length;
      const { te, connection, host: name } = request.headers;
      response.setHeader("content-type", "text/plain");
      response.write(
        `${request.httpVersion} ${bytes} ${request.authority.split(":")[0]} ${te} ${connection} ${name}`,
      );
      response.addTrailers({ "x-sum": String(bytes), "x-sent": JSON.stringify(request.trailers) });
      response.end();
    }),
  );
  const directory = await mkdtemp(join(tmpdir(), "hearth-curl-"));
  const ca = join(directory, "ca.pem");
  writeFileSync(ca, await door.authority());
  const { stdout } = await promisify(execFile)("curl", [
    ...["-sS", "--http2", "--cacert", ca, "--resolve", `${host}:${door.https}:127.0.0.1`],
    ...["-w", "\n%{http_version} %{http_code}", "--data-binary", "x".repeat(100_000)],
    `https://${host}:${door.https}/`,
  ]);
  assert.match(stdout, new RegExp(`^2.0 100000 ${host} trailers undefined undefined\n2 200$`));
  await rm(directory, { recursive: true });
  const chunked = await sendRaw(
    door.port,
    `POST / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n` +
      "3\r\nabc\r\n0\r\nX-After: yes\r\nAuthorization: no\r\n\r\n",
  );
  assert.match(chunked, /^HTTP\/1\.1 200 OK[\s\S]*2\.0 3 web\.example\.test/);
  assert.match(chunked, /0\r\nx-sum: 3\r\nx-sent: {"x-after":"yes"}\r\n\r\n$/);
});
