/** The PROXY protocol: headers by the specification's own examples, by chance, and through a front door. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { connect as connectTls } from "node:tls";
import fc from "fast-check";
import { closedPort, startDoor } from "../testing/door.ts";
import { webService } from "../testing/facts.ts";
import { maxProxyHeaderBytes, readProxyHeader, writeProxyHeader } from "./proxy-protocol.ts";

const host = "web.example.test";
const v1 = "PROXY TCP4 192.0.2.7 198.51.100.1 5555 443\r\n";
const signature = "\r\n\r\n\0\r\nQUIT\n";
const latin1 = (value: string): Buffer => Buffer.from(value, "latin1");
const connection = {
  source: { address: "192.0.2.7", port: 5555 },
  destination: { address: "198.51.100.1", port: 443 },
};
const v2 = writeProxyHeader(2, connection);

test("a header says whose the connection is, and how long it is itself", () => {
  assert.deepEqual(readProxyHeader(latin1(`${v1}GET /`)), { kind: "header", length: v1.length, connection });
  assert.deepEqual(readProxyHeader(v2), { kind: "header", length: 28, connection });
  assert.equal(v2.toString("hex"), "0d0a0d0a000d0a515549540a2111000cc0000207c633640115b301bb");
  const tlv = Buffer.from(v2);
  tlv.writeUInt16BE(12 + 7, 14);
  const withMore = Buffer.concat([tlv, latin1("\x04\0\x04abcd"), latin1("GET /")]);
  assert.deepEqual(readProxyHeader(withMore), { kind: "header", length: 35, connection });
  const none = { kind: "header", length: 15 };
  assert.deepEqual(readProxyHeader(latin1("PROXY UNKNOWN\r\n")), none);
  assert.deepEqual(readProxyHeader(latin1(`${signature}\x20\0\0\0`)), { ...none, length: 16 });
  const longest = `PROXY UNKNOWN ${"f".repeat(91)}\r\n`;
  assert.deepEqual(readProxyHeader(latin1(longest)), { ...none, length: 107 });
});

test("what is nearly a header is none", () => {
  const bad = [
    ...["GET / HTTP/1.1\r\n\r\n", "PROXY\r\n", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "\x16\x03\x01"],
    ...["PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n"],
    ...["PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"],
    ...[
      "PROXY TCP4 ::1 ::1 1 2\r\n",
      "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
      "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
    ],
    ...[
      "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
      "PROXY TCP4 1.2.3.4\r\n",
      `PROXY UNKNOWN ${"f".repeat(92)}\r\n`,
    ],
    ...[`${signature}\x11\x11\0\x0c${"a".repeat(12)}`, `${signature}\x22\x11\0\x0c${"a".repeat(12)}`],
    ...[`${signature}\x21\x12\0\x0c${"a".repeat(12)}`, `${signature}\x21\x31\0\xd8${"a".repeat(216)}`],
    ...[`${signature}\x21\x11\0\x0b${"a".repeat(11)}`, `${signature}\x21\x21\0\x0c${"a".repeat(12)}`],
    ...[`${signature}\x21\x11\xff\xff`, `${signature}\x21\0\0\0`],
  ];
  for (const each of bad)
    assert.deepEqual(readProxyHeader(latin1(each)), { kind: "bad" }, JSON.stringify(each));
});

test("a header that comes in pieces is waited for, and what is written is read again", () => {
  for (const whole of [latin1(v1), v2])
    for (let length = 0; length < whole.length; length += 1)
      assert.equal(readProxyHeader(whole.subarray(0, length)).kind, "more", `${length} bytes`);
  const port = fc.nat(65_535);
  const v4 = fc.ipV4();
  // The protocol has room for 39 characters; the kernel's own texts are no longer.
  const v6 = fc.ipV6().filter((address) => address.length <= 39);
  const end = fc.record({ address: fc.oneof(v4, v6), port });
  fc.assert(
    fc.property(fc.constantFrom(1, 2), end, end, fc.uint8Array(), (version, source, destination, after) => {
      const bytes = writeProxyHeader(version as 1 | 2, { source, destination });
      const read = readProxyHeader(Buffer.concat([bytes, after]));
      assert.equal(read.kind, "header");
      if (read.kind !== "header") return;
      assert.equal(read.length, bytes.length);
      assert.equal(read.connection?.source.port, source.port);
      const url = (address: string): string =>
        new URL(address.includes(":") ? `http://[${address}]` : `http://[::ffff:${address}]`).hostname;
      assert.equal(url(read.connection?.source.address ?? ""), url(source.address));
      assert.equal(url(read.connection?.destination.address ?? ""), url(destination.address));
    }),
  );
});

test("no bytes make the reader fail, or read beyond what is there", () => {
  const start = fc.constantFrom(
    "",
    "PROXY ",
    "PROXY TCP4 ",
    signature,
    `${signature}\x21`,
    `${signature}\x21\x11\0`,
  );
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 2_500 }), (first, rest) => {
      const bytes = Buffer.concat([latin1(first), rest]);
      const read = readProxyHeader(bytes);
      if (read.kind === "header") assert.ok(read.length <= bytes.length);
      if (read.kind === "more") assert.ok(bytes.length < maxProxyHeaderBytes);
    }),
    { numRuns: 2_000 },
  );
});

const request = `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;

/** Sends pieces in turns of their own. */
async function send(port: number, ...pieces: (string | Buffer)[]): Promise<string> {
  const socket = connect(port, "127.0.0.1").on("error", () => undefined);
  await once(socket, "connect");
  for (const piece of pieces) {
    socket.write(piece as string, "latin1");
    await new Promise((resolve) => setImmediate(resolve));
  }
  const answer = await text(socket).catch(() => "");
  socket.destroy();
  return answer;
}

test("in: a trusted source names the client, for the guest and the log, over HTTP and over TLS", async () => {
  await using door = await startDoor({ proxiedFrom: ["127.0.0.0/8"] });
  await door.guest((request, response) => response.end(JSON.stringify(request.headers)));
  assert.match(await send(door.port, v1 + request), /"x-forwarded-for":"192\.0\.2\.7"/);
  assert.match(await send(door.port, v1.slice(0, 9), v1.slice(9), request), /for=192\.0\.2\.7;/);
  const own = latin1(`${signature}\x20\0\0\0`);
  assert.match(await send(door.port, own, request), /"x-forwarded-for":"127\.0\.0\.1"/);
  const raw = connect(door.https, "127.0.0.1");
  raw.write(v2);
  const secure = connectTls({ socket: raw, servername: host, ca: await door.authority() });
  secure.write(request);
  assert.match(await text(secure), /"x-forwarded-for":"192\.0\.2\.7"/);
  assert.deepEqual(
    door.events.map(({ client }) => client),
    ["192.0.2.7", "192.0.2.7", "127.0.0.1", "192.0.2.7"],
  );
});

test("in: a trusted source that sends none, or half of one, gets nothing", async () => {
  await using door = await startDoor({ proxiedFrom: ["127.0.0.0/8"], limits: { headersMs: 200 } });
  await door.guest(() => assert.fail("not to be forwarded"));
  for (const bytes of [
    request,
    v1.slice(0, 10),
    `${v1.replace("TCP4", "TCP6")}${request}`,
    "\0".repeat(5_000),
  ])
    assert.equal(await send(door.port, bytes), "", JSON.stringify(bytes));
  const ends = connect(door.port, "127.0.0.1").resume();
  ends.end("PROXY ");
  await once(ends, "close");
  assert.deepEqual(door.events, []);
});

test("in: what others write is their request and no header", async () => {
  await using door = await startDoor({ proxiedFrom: ["192.0.2.0/24", "2001:db8::/32"] });
  await door.guest((request, response) => response.end(String(request.headers["x-forwarded-for"])));
  assert.match(await send(door.port, v1 + request), /^HTTP\/1\.1 400 /);
  assert.match(await send(door.port, request), /127\.0\.0\.1$/);
});

test("in: the limit of connections is that of the client, not of the balancer", async () => {
  await using door = await startDoor({ proxiedFrom: ["127.0.0.0/8"], limits: { connectionsPerSource: 1 } });
  await door.guest((_request, response) => response.end("hello"));
  const first = connect(door.port, "127.0.0.1");
  first.write(`${v1}GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  await once(first, "data");
  assert.equal(await send(door.port, v1 + request), "");
  assert.match(await send(door.port, v1.replace("192.0.2.7", "192.0.2.8") + request), /hello$/);
  first.destroy();
});

async function rawGuest(take: (socket: Socket) => void) {
  const server = createServer({ allowHalfOpen: true }, take).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, port: (server.address() as AddressInfo).port };
}

test("out: a guest that wants it is told first whose the connection is, of what came in as well", async () => {
  const guest = await rawGuest((socket) => socket.pipe(socket));
  for (const [options, proxied] of [
    [{}, false],
    [{ version: "v2" }, false],
    [{ version: "v1" }, true],
  ] as const) {
    await using door = await startDoor(proxied ? { proxiedFrom: ["127.0.0.0/8"] } : {});
    const port = await closedPort();
    const ports = [{ port, handlers: ["proxy_proto"], proxy_proto_options: options }];
    door.put({ address: "127.0.0.1", services: [{ internal_port: guest.port, ports }] });
    await door.ingress.portsSettled();
    const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    client.end(`${proxied ? v1 : ""}hello`);
    await once(client, "connect");
    const ends = {
      source: { address: "127.0.0.1", port: client.localPort ?? 0 },
      destination: { address: "127.0.0.1", port },
    };
    const header = writeProxyHeader(
      "version" in options && options.version === "v2" ? 2 : 1,
      proxied ? connection : ends,
    );
    assert.equal(await text(client), `${header.toString("utf8")}hello`);
  }
  guest.server.close();
});

test("out: it is within no TLS that ends here, and ALPN offers what the service names", async () => {
  await using door = await startDoor();
  const guest = await rawGuest((socket) => socket.pipe(socket));
  const port = await closedPort();
  const ports = [{ port, handlers: ["tls", "proxy_proto"], tls_options: { alpn: ["mqtt", "h2"] } }];
  door.put({ address: "127.0.0.1", services: [{ internal_port: guest.port, ports }] });
  await door.ingress.portsSettled();
  const ca = await door.authority();
  const options = { port, host: "127.0.0.1", servername: host, ca, ALPNProtocols: ["h2", "mqtt"] };
  const client = connectTls(options);
  await once(client, "secureConnect");
  assert.equal(client.alpnProtocol, "mqtt");
  client.end("hello");
  assert.match(await text(client), /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\nhello$/);
  guest.server.close();
});

test("ALPN of a name is what its service wants, and of all others what is spoken here", async () => {
  await using door = await startDoor();
  door.put({
    services: [
      webService(1, {
        ports: [{ port: 443, handlers: ["tls", "http"], tls_options: { alpn: ["http/1.1"] } }],
      }),
    ],
  });
  const ca = await door.authority();
  const agreed = async (servername: string, ALPNProtocols: string[]) => {
    const client = connectTls({ port: door.https, host: "127.0.0.1", servername, ca, ALPNProtocols });
    client.on("error", () => undefined);
    await new Promise<void>((resolve) =>
      client.once("secureConnect", resolve).once("close", () => resolve()),
    );
    client.destroy();
    return client.alpnProtocol;
  };
  assert.equal(await agreed(host, ["h2", "http/1.1"]), "http/1.1");
  assert.equal(await agreed("other.example.test", ["http/1.1", "h2"]), "h2");
  assert.ok(!(await agreed(host, ["h2"])), "nothing that both speak");
});
