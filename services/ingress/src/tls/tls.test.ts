import assert from "node:assert/strict";
import { once } from "node:events";
import { statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { request as httpsRequest } from "node:https";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from "node:tls";
import { startDoor } from "../testing/door.ts";
import { machineId } from "../testing/facts.ts";
import { readHelloName } from "./client-hello.ts";
import { authorityPaths, LocalCa } from "./local-ca.ts";

const host = "web.example.test";

test("the authority is made once, its key is its user's alone, and what it signs is for the names asked for", async () => {
  const directory = await mkdtemp(join(tmpdir(), "hearth-ca-"));
  const made = join(directory, "ingress");
  const ca = new LocalCa(made);
  const first = await ca.certificate();
  assert.equal(await new LocalCa(made).certificate(), first);
  assert.equal(statSync(authorityPaths(made).key).mode & 0o777, 0o600);
  assert.equal(statSync(made).mode & 0o777, 0o700);
  const { cert, expiresMs } = await ca.issue(["example.test", "*.example.test"]);
  assert.match(cert, /BEGIN[\s\S]*BEGIN/, "with its issuer");
  assert.ok(expiresMs > Date.now() + 80 * 86_400_000);
  await assert.rejects(ca.issue(["a.test\nbasicConstraints=CA:TRUE"]), { code: "invalid_argument" });
  await rm(directory, { recursive: true });
});

async function secure(
  port: number,
  ca: string,
  servername: string | undefined,
  protocols?: string[],
): Promise<TLSSocket> {
  const socket = connectTls({
    ...{ port, host: "127.0.0.1", ca },
    ...(servername === undefined ? { checkServerIdentity: () => undefined } : { servername }),
    ...(protocols && { ALPNProtocols: protocols }),
  });
  await once(socket, "secureConnect");
  return socket;
}

test("HTTPS: the guest is told of it, and a client that trusts the authority trusts every app", async () => {
  await using door = await startDoor();
  await door.guest((request, response) => response.end(`${request.headers["x-forwarded-proto"]}`));
  const ca = await door.authority();
  const asking = httpsRequest({
    port: door.https,
    host: "127.0.0.1",
    servername: host,
    headers: { host },
    ca,
    agent: false,
  });
  asking.end();
  const [answer] = await once(asking, "response");
  assert.equal(await text(answer), "https");
});

test("a client that is slow with its headers is closed over TLS too", async () => {
  await using door = await startDoor({ limits: { headersMs: 300 } });
  await door.guest((_request, response) => response.end("hello"));
  const socket = await secure(door.https, await door.authority(), host);
  socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n`);
  const dripping = setInterval(() => socket.write("X: y\r\n"), 50);
  try {
    assert.match(await text(socket.on("error", () => undefined)), /^HTTP\/1\.1 408 /);
  } finally {
    clearInterval(dripping);
  }
});

test("a client that names nobody is shown the domain, and one that names what is not served gets no certificate", async () => {
  await using door = await startDoor();
  const ca = await door.authority();
  const nameless = await secure(door.https, ca, undefined);
  assert.match(nameless.getPeerCertificate().subjectaltname ?? "", /DNS:\*\.example\.test/);
  nameless.destroy();
  for (const name of ["elsewhere.test", "a.b.example.test", "example.test.evil"])
    await assert.rejects(secure(door.https, ca, name), name);
  (await secure(door.https, ca, "nobody.example.test")).destroy();
});

test("a certificate that cannot be made ends that handshake, and not the door", async () => {
  let fails = true;
  const directory = await mkdtemp(join(tmpdir(), "hearth-ca-"));
  const authority = new LocalCa(directory);
  await using door = await startDoor({
    issue: (names) => (fails ? Promise.reject(new Error("no openssl")) : authority.issue(names)),
  });
  await door.guest((_request, response) => response.end("plain works"));
  await assert.rejects(secure(door.https, "", host));
  const plain = connect(door.port, "127.0.0.1");
  plain.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  assert.match(await text(plain), /plain works/);
  fails = false;
  await rm(directory, { recursive: true });
});

async function http2(port: number, ca: string): Promise<ClientHttp2Session> {
  const session = connectHttp2(`https://${host}:${port}`, {
    createConnection: () =>
      connectTls({ port, host: "127.0.0.1", servername: host, ca, ALPNProtocols: ["h2"] }),
  });
  session.on("error", () => undefined);
  await once(session, "connect");
  return session;
}

const headersOf = (more: object = {}) => ({ ":path": "/", ":authority": host, ":scheme": "https", ...more });

test("HTTP/2: streams, trailers, cookies and bodies both ways go to a guest that speaks HTTP/1.1", async () => {
  await using door = await startDoor();
  const seen: (string | undefined)[] = [];
  await door.guest(async (request, response) => {
    seen.push(request.headers.cookie, request.headers.host, request.headers["content-length"]);
    response.writeHead(200, {
      "set-cookie": ["a=1", "b=2"],
      connection: "x-hop",
      "x-hop": "1",
      trailer: "grpc-status",
    });
    for await (const part of request) response.write(part);
    response.addTrailers({ "grpc-status": "0" });
    response.end();
  });
  const session = await http2(door.https, await door.authority());
  const stream = session.request(headersOf({ ":method": "POST", cookie: ["c=3", "d=4"] }));
  const trailers = once(stream, "trailers");
  stream.write("one ");
  const [headers] = await once(stream, "response");
  assert.deepEqual(
    [headers[":status"], headers["set-cookie"], headers["x-hop"]],
    [200, ["a=1", "b=2"], undefined],
  );
  stream.end("two");
  assert.equal(await text(stream), "one two");
  assert.equal((await trailers)[0]["grpc-status"], "0");
  assert.deepEqual(seen, ["c=3; d=4", host, undefined]);
  const many = Array.from({ length: 50 }, () => session.request(headersOf()));
  for (const one of many) assert.equal(await text(one), "");
  session.close();
});

test("HTTP/2: what would be two requests in HTTP/1.1 is refused, and the connection goes on", async () => {
  await using door = await startDoor();
  const urls: string[] = [];
  await door.guest((request, response) => {
    urls.push(request.url ?? "");
    response.end("ok");
  });
  const session = await http2(door.https, await door.authority());
  const ask = async (headers: object): Promise<unknown> => {
    try {
      const stream = session.request({ ...headersOf(), ...headers });
      stream.on("error", () => undefined);
      stream.end();
      const [answer] = await once(stream, "response");
      stream.resume();
      return answer[":status"];
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  };
  assert.equal(await ask({ ":authority": host, host: "other.example.test" }), 400);
  for (const path of ["/a b", "/#x", "*", "x"])
    assert.ok([400, "ERR_HTTP2_STREAM_ERROR"].includes((await ask({ ":path": path })) as string), path);
  assert.equal(await ask({ ":method": "TRACE" }), 405);
  assert.equal(await ask({ ":authority": "nobody.example.test" }), 404);
  assert.deepEqual(urls, []);
  assert.equal(await ask({}), 200);
  session.destroy();
});

test("HTTP/2: rapid resets close the connection, and others are served on", async () => {
  await using door = await startDoor({ limits: { streamResets: 20 } });
  await door.guest((_request, response) => void response);
  const ca = await door.authority();
  const attacker = await http2(door.https, ca);
  // Not `once`: what it is told is an error to it.
  const closed = new Promise<void>((resolve) => attacker.once("close", () => resolve()));
  for (let count = 0; count < 1_000 && !attacker.destroyed && !attacker.closed; count += 1) {
    const stream = attacker.request(headersOf());
    stream.on("error", () => undefined);
    // In another turn, so that the stream is there before it is reset.
    await Promise.race([new Promise((resolve) => setImmediate(resolve)), closed]);
    stream.close(constants.NGHTTP2_CANCEL);
    await Promise.race([new Promise((resolve) => setImmediate(resolve)), closed]);
  }
  await closed;
  const other = await http2(door.https, ca);
  const stream = other.request(headersOf({ ":authority": "nobody.example.test" }));
  const [headers] = await once(stream, "response");
  assert.equal(headers[":status"], 404);
  other.destroy();
});

test("HTTP/2: what is no frame ends its connection alone", async () => {
  await using door = await startDoor();
  const ca = await door.authority();
  const frames = [
    `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${"\0".repeat(200)}`,
    `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x04\0\0\0\x01${"x".repeat(100)}`,
    "GET / HTTP/1.1\r\n\r\n",
    "\xff".repeat(100),
  ];
  for (const bytes of frames) {
    const socket = await secure(door.https, ca, host, ["h2"]);
    socket.on("error", () => undefined).resume();
    socket.write(Buffer.from(bytes, "latin1"));
    await once(socket, "close", { signal: AbortSignal.timeout(5_000) });
  }
  (await http2(door.https, ca)).destroy();
});

test("a ClientHello is read as far as it is there, and whatever else comes is no name", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connectTls({
    port: (server.address() as AddressInfo).port,
    host: "127.0.0.1",
    servername: "A.example.test",
  });
  client.on("error", () => undefined);
  const [socket] = (await once(server, "connection")) as [Socket];
  const [hello] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  server.close();
  assert.deepEqual(readHelloName(hello), { kind: "name", name: "a.example.test", asksProof: false });
  for (let length = 0; length < hello.length; length += 1)
    assert.equal(readHelloName(hello.subarray(0, length)).kind, "more", `${length} bytes`);
  for (let at = 0; at < hello.length; at += 1)
    for (const value of [0, 1, 0x7f, 0xff]) {
      const broken = Buffer.from(hello);
      broken[at] = value;
      assert.ok(["name", "none", "more", "bad"].includes(readHelloName(broken).kind));
    }
  assert.equal(readHelloName(Buffer.from("GET / HTTP/1.1")).kind, "bad");
});

test("raw TCP: a port of an app is opened, carries bytes with half-close, and goes with the app", async () => {
  await using door = await startDoor();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // Answers only when it has all: that needs the end of one direction, and the other one open.
    let got = "";
    socket.on("data", (part) => {
      got += part;
    });
    socket.on("end", () => socket.end(`all: ${got}`));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const internal = (server.address() as AddressInfo).port;
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const port = (probe.address() as AddressInfo).port;
  probe.close();
  await once(probe, "close");
  door.put({ address: "127.0.0.1", services: [{ internal_port: internal, ports: [{ port }] }] });
  door.put({ id: machineId(2), app: "zebra", services: [{ internal_port: 1, ports: [{ port }] }] });
  await door.ingress.portsSettled();
  const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  client.end("hello");
  assert.equal(await text(client), "all: hello");
  const event = await door.event((each) => each.event === "connection");
  assert.deepEqual([event.app, event.machine_id, event.protocol], ["web", machineId(1), "tcp"]);
  door.put({ state: "destroyed" });
  door.put({ id: machineId(2), app: "zebra", state: "destroyed" });
  await door.ingress.portsSettled();
  await assert.rejects(once(connect(port, "127.0.0.1"), "connect"), { code: "ECONNREFUSED" });
  server.close();
});

test("pass-through: an app that ends TLS itself is found by name, and others on the same port go on as before", async () => {
  await using door = await startDoor();
  const directory = await mkdtemp(join(tmpdir(), "hearth-ca-"));
  const own = new LocalCa(directory);
  const pair = await own.issue(["own.example.test"]);
  const server = createTlsServer(pair, (socket) => socket.end("from the app's own TLS")).listen(
    0,
    "127.0.0.1",
  );
  await once(server, "listening");
  const internal = (server.address() as AddressInfo).port;
  await door.guest((_request, response) => response.end("from the door's TLS"), { id: machineId(2) });
  const services = [{ internal_port: internal, ports: [{ port: 443, handlers: [] }] }];
  door.put({ app: "own", address: "127.0.0.1", services });
  const through = await secure(door.https, await own.certificate(), "own.example.test");
  assert.equal(await text(through), "from the app's own TLS");
  const ended = await secure(door.https, await door.authority(), host);
  ended.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  assert.match(await text(ended), /from the door's TLS/);
  const junk = connect(door.https, "127.0.0.1");
  junk.on("error", () => undefined).resume();
  junk.write("GET / HTTP/1.1\r\n\r\n");
  await once(junk, "close");
  server.close();
  await rm(directory, { recursive: true });
});
