/**
 * What a client of HTTP/2 may send and no library would, written by hand: each is refused or its connection is closed,
 * nothing of it reaches a guest as a request it is not, and a client beside it is served on.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { constants } from "node:http2";
import { after, before, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { startDoor } from "../testing/door.ts";
import {
  ack,
  endHeaders,
  endStream,
  type Frame,
  frame,
  frameType,
  headerBlock,
  preface,
  readFrames,
  uint32,
} from "../testing/frames.ts";

const host = "web.example.test";
const streamResets = 20;
let door: Awaited<ReturnType<typeof startDoor>>;
let ca: string;
const seen: string[] = [];
const names: string[] = [];
const large = Buffer.alloc(4 * 1024 * 1024);

before(async () => {
  door = await startDoor({ limits: { streamResets, keepAliveMs: 3_000, idleMs: 3_000 } });
  await door.guest((request, response) => {
    let body = "";
    names.push(...Object.keys(request.headers));
    request
      .on("error", () => undefined)
      .on("data", (part) => {
        body += part;
      });
    request.on("end", () => {
      seen.push(`${request.method} ${request.url} ${body}`);
      response.end(request.url === "/large" ? large : "hello");
    });
  });
  ca = await door.authority();
});
after(() => door[Symbol.asyncDispose]());

const fields = (path: string, more: readonly (readonly [string, string])[] = []) =>
  [[":method", "GET"], [":scheme", "https"], [":authority", host], [":path", path], ...more] as const;
const get = (stream: number, path = "/", more: readonly (readonly [string, string])[] = []): Buffer =>
  frame(frameType.headers, endHeaders | endStream, stream, headerBlock(fields(path, more)));

async function open(greeting = Buffer.concat([preface, frame(frameType.settings, 0, 0)])) {
  const options = { port: door.https, host: "127.0.0.1", servername: host, ca, ALPNProtocols: ["h2"] };
  const socket: TLSSocket = connectTls(options);
  socket.on("error", () => undefined);
  const frames = readFrames(socket);
  await once(socket, "secureConnect");
  socket.write(greeting);
  return { socket, ...frames };
}

/** A client that behaves, beside the one that does not. */
async function othersAreServed(): Promise<void> {
  const { socket, seen: sees } = await open();
  socket.write(get(1, "/other"));
  const data = await sees(({ type }) => type === frameType.data);
  assert.equal(String(data?.payload), "hello");
  socket.destroy();
}

const isReset = ({ type }: Frame): boolean => type === frameType.rstStream;
const isGoaway = ({ type }: Frame): boolean => type === frameType.goaway;

/** Each ends its connection, with GOAWAY or without a word. */
const ends: Record<string, readonly (Buffer | string)[]> = {
  "an oversize frame": [frame(frameType.data, 0, 1, Buffer.alloc(16_385))],
  "DATA on stream 0": [frame(frameType.data, 0, 0, "x")],
  "DATA on a stream that is idle": [frame(frameType.data, 0, 5, "x")],
  "HEADERS on a stream of the server": [get(2)],
  "HEADERS on stream 0": [get(0)],
  "SETTINGS of a wrong length": [frame(frameType.settings, 0, 0, "12345")],
  "SETTINGS on a stream": [frame(frameType.settings, 0, 1)],
  "an acknowledgement with a payload": [frame(frameType.settings, ack, 0, "123456")],
  "too large a window in SETTINGS": [
    frame(frameType.settings, 0, 0, Buffer.from([0, 4, 255, 255, 255, 255])),
  ],
  "too small a frame size in SETTINGS": [frame(frameType.settings, 0, 0, Buffer.from([0, 5, 0, 0, 0, 1]))],
  "PING of a wrong length": [frame(frameType.ping, 0, 0, "1234567")],
  "a window that grows by nothing": [frame(frameType.windowUpdate, 0, 0, uint32(0))],
  "a window that overflows": [frame(frameType.windowUpdate, 0, 0, uint32(0x7fffffff))],
  "a push by the client": [frame(frameType.pushPromise, endHeaders, 1, uint32(2))],
  "CONTINUATION without HEADERS": [frame(frameType.continuation, endHeaders, 1, headerBlock(fields("/")))],
  "another frame within a header block": [
    frame(frameType.headers, endStream, 1, headerBlock(fields("/"))),
    frame(frameType.ping, 0, 0, "12345678"),
  ],
  "an index of HPACK that nothing has": [
    frame(frameType.headers, endHeaders | endStream, 1, Buffer.from([0xff, 0xff, 0x0f])),
  ],
  "an integer of HPACK without an end": [
    frame(frameType.headers, endHeaders | endStream, 1, Buffer.alloc(20, 0xff)),
  ],
  "a header block that breaks off": [
    frame(frameType.headers, endHeaders | endStream, 1, Buffer.from([0, 0x7f])),
  ],
  "padding longer than its frame": [
    frame(frameType.headers, endHeaders | endStream | 0x8, 1, Buffer.from([200, 0x82])),
  ],
};

test("what breaks the protocol ends its connection, and no other", async () => {
  for (const [name, bytes] of Object.entries(ends)) {
    const { socket, closed } = await open();
    for (const each of bytes) socket.write(each);
    await closed();
    assert.ok(socket.destroyed || socket.readableEnded, name);
  }
  for (const greeting of [
    "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "\0".repeat(24),
    "GET / HTTP/1.1\r\n\r\n\r\n\r\n\r\n",
  ]) {
    const { closed } = await open(Buffer.from(greeting, "latin1"));
    await closed();
  }
  assert.deepEqual(seen, []);
  await othersAreServed();
  seen.length = 0;
});

/** Each is reset, or answered with 4xx; the connection may go on. */
const refused: Record<string, readonly (readonly [string, string])[]> = {
  "a name in capitals": fields("/", [["X-Capital", "1"]]),
  "a connection header": fields("/", [["connection", "close"]]),
  "a transfer coding": fields("/", [["transfer-encoding", "chunked"]]),
  "an upgrade": fields("/", [["upgrade", "websocket"]]),
  "te that is not trailers": fields("/", [["te", "gzip"]]),
  "a pseudo header behind others": [["x", "1"], ...fields("/")],
  "a pseudo header that nobody knows": fields("/", [[":unknown", "1"]]),
  "a pseudo header of responses": fields("/", [[":status", "200"]]),
  "two paths": fields("/", [[":path", "/2"]]),
  "two methods": [[":method", "POST"], ...fields("/")],
  "no path": fields("/").filter(([name]) => name !== ":path"),
  "no method": fields("/").filter(([name]) => name !== ":method"),
  "no scheme": fields("/").filter(([name]) => name !== ":scheme"),
  "an empty path": fields(""),
  "a line feed in the path": fields("/ HTTP/1.1\r\nX-Injected: 1\r\n"),
  "a host beside another authority": fields("/", [["host", "other.example.test"]]),
  "two lengths": fields("/", [
    ["content-length", "1"],
    ["content-length", "2"],
  ]),
  "a length with a sign": fields("/", [["content-length", "+1"]]),
  "a method that is a request line": [
    [":method", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"],
    ...fields("/").slice(1),
  ],
};

test("a request that HTTP/2 does not allow, or HTTP/1.1 would read otherwise, is refused, and no guest sees it", async () => {
  for (const [name, block] of Object.entries(refused)) {
    const { socket, seen: sees } = await open();
    socket.write(frame(frameType.headers, endHeaders | endStream, 1, headerBlock(block)));
    const told = await sees(
      (each) => isReset(each) || isGoaway(each) || (each.type === frameType.headers && each.stream === 1),
    );
    // 0x8c is the static table's :status 400; what is written out has its digits in it.
    const isRefused = told === undefined || told.type !== frameType.headers || told.payload[0] === 0x8c;
    assert.ok(isRefused, `${name}: ${told?.payload.toString("latin1")}`);
    socket.destroy();
  }
  assert.deepEqual(seen, []);
  await othersAreServed();
  seen.length = 0;
});

test("a field that HTTP/1.1 could not say is left out, and the request goes on without it", async () => {
  const left = [
    ...[
      ["x-value", "a\r\nX-Injected: 1"],
      ["x-value", "a\0b"],
      ["x-value", "a\nb"],
    ],
    ...[
      ["x-value:y", "1"],
      ["x-value y", "1"],
      ["", "1"],
      ["x-value\r\nx-injected", "1"],
    ],
  ] as [string, string][];
  for (const field of left) {
    const { socket, seen: sees } = await open();
    socket.write(get(1, "/left-out", [field]));
    assert.equal(String((await sees(({ type }) => type === frameType.data))?.payload), "hello");
    socket.destroy();
  }
  assert.deepEqual(new Set(seen), new Set(["GET /left-out "]));
  assert.doesNotMatch(names.join(), /x-injected|x-value/);
  seen.length = 0;
});

test("a body that is not as long as it says is no request of a guest", async () => {
  for (const [length, body] of [
    ["5", "abc"],
    ["2", "abc"],
    ["0", "abc"],
  ] as const) {
    const { socket, seen: sees } = await open();
    const block = [[":method", "POST"], ...fields("/length", [["content-length", length]]).slice(1)] as const;
    socket.write(frame(frameType.headers, endHeaders, 1, headerBlock(block)));
    socket.write(frame(frameType.data, endStream, 1, body));
    assert.ok((await sees((each) => isReset(each) || isGoaway(each))) ?? true);
    socket.destroy();
  }
  await othersAreServed();
  assert.deepEqual(seen, ["GET /other "]);
  seen.length = 0;
});

/** Written until the connection is closed or so many were taken; drained, so that this process is the one that waits. */
async function flood(socket: TLSSocket, piece: (count: number) => Buffer, most: number): Promise<number> {
  let count = 0;
  for (; count < most && socket.writable; count += 1) {
    if (socket.write(piece(count))) continue;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        socket.off("drain", go).off("close", go);
        resolve();
      };
      socket.on("drain", go).on("close", go);
    });
  }
  return count;
}

const repeated = (bytes: Buffer): Buffer => Buffer.concat(new Array<Buffer>(100).fill(bytes));
const odd = (count: number): number => 2 * count + 1;
const floods: Record<string, { readonly piece: (count: number) => Buffer; readonly most: number }> = {
  // CVE-2023-44487
  "rapid resets": {
    piece: (count) =>
      Buffer.concat([
        get(odd(count)),
        frame(frameType.rstStream, 0, odd(count), uint32(constants.NGHTTP2_CANCEL)),
      ]),
    most: 20_000,
  },
  // CVE-2024-27316
  "CONTINUATION without an end": {
    piece: (count) =>
      count === 0
        ? frame(frameType.headers, endStream, 1, headerBlock(fields("/")))
        : frame(frameType.continuation, 0, 1, headerBlock([["x", "y".repeat(1_000)]])),
    most: 20_000,
  },
  "empty CONTINUATION without an end": {
    piece: (count) =>
      count === 0
        ? frame(frameType.headers, endStream, 1, headerBlock(fields("/")))
        : frame(frameType.continuation, 0, 1),
    most: 200_000,
  },
  // CVE-2019-9515. The answers are more than the kernel keeps for a client that reads none.
  SETTINGS: {
    piece: () => repeated(frame(frameType.settings, 0, 0, Buffer.from([0, 3, 0, 0, 0, 1]))),
    most: 40_000,
  },
  // CVE-2019-9512
  PING: { piece: () => repeated(frame(frameType.ping, 0, 0, "12345678")), most: 40_000 },
  // CVE-2016-6581: one large field in the dynamic table, then named again and again at a byte each.
  "an HPACK bomb": {
    piece: (count) => {
      const stored = Buffer.concat([
        Buffer.from([0x40]),
        headerBlock([["x", "y".repeat(3_900)]]).subarray(1),
      ]);
      const block = Buffer.concat([
        headerBlock(fields("/")),
        count === 0 ? stored : Buffer.alloc(0),
        Buffer.alloc(14_000, 0xbe),
      ]);
      return frame(frameType.headers, endHeaders | endStream, odd(count), block);
    },
    most: 20_000,
  },
};

for (const [name, { piece, most }] of Object.entries(floods))
  test(`a flood is closed, and others are served meanwhile: ${name}`, async () => {
    const { socket, closed } = await open();
    // Nothing of what it is sent is read, as such a client would do.
    socket.pause();
    const before = process.memoryUsage().rss;
    const flooding = flood(socket, piece, most);
    await othersAreServed();
    const count = await flooding;
    socket.resume();
    await closed();
    assert.ok(count < most, `${count} of ${most} were taken`);
    const grown = process.memoryUsage().rss - before;
    assert.ok(grown < 150 * 1024 * 1024, `${grown} bytes more are resident`);
  });

test("resets are counted: after so many the client is told to calm down", async () => {
  const { socket, seen: sees } = await open();
  for (let count = 0; count <= streamResets + 5; count += 1) {
    const reset = frame(frameType.rstStream, 0, odd(count), uint32(constants.NGHTTP2_CANCEL));
    // With its body still to come, so that the stream is there when it is reset.
    const block = headerBlock([[":method", "POST"], ...fields("/reset").slice(1)]);
    socket.write(Buffer.concat([frame(frameType.headers, endHeaders, odd(count), block), reset]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const goaway = await sees(isGoaway);
  assert.equal(goaway?.payload.readUInt32BE(4), constants.NGHTTP2_ENHANCE_YOUR_CALM);
});

test("a request of too many headers is refused each time, and others are served meanwhile", async () => {
  const { socket } = await open();
  const many = Array.from({ length: 300 }, (_each, at) => [`x${at}`, "1"] as const);
  const flooding = flood(socket.resume(), (count) => get(odd(count), "/many", many), 500);
  await othersAreServed();
  await flooding;
  await othersAreServed();
  assert.equal(seen.includes("GET /many "), false);
  socket.destroy();
});

test("a client that opens no window is let go of", async () => {
  const settings = frame(frameType.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
  const { socket, closed } = await open(Buffer.concat([preface, settings]));
  for (let count = 0; count < 20; count += 1) socket.write(get(odd(count), "/large"));
  await othersAreServed();
  await closed();
});
