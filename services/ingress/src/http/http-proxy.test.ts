import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { ask, begin, testHost as host } from "../testing/client.ts";
import { closedPort, sendRaw, startDoor } from "../testing/door.ts";
import { machineId, webService } from "../testing/facts.ts";

test("a request reaches its guest, with who the client is, and none of what it said of that itself", async () => {
  await using door = await startDoor();
  await door.guest((request, response) => response.end(JSON.stringify(request.rawHeaders)));
  const trace = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
  const { body, headers } = await ask(door.port, {
    headers: {
      ...{
        "x-forwarded-for": "6.6.6.6",
        forwarded: "for=6.6.6.6",
        "x-real-ip": "6.6.6.6",
        x_forwarded_for: "6",
      },
      ...{ connection: "keep-alive, x-secret", "x-secret": "1", "x-own": "2", te: "trailers" },
      ...{ "x-request-id": "mine", traceparent: trace, transfer_encoding: "chunked" },
    },
  });
  const flat = JSON.parse(body) as string[];
  const seen: Record<string, string> = {};
  for (let at = 0; at < flat.length; at += 2) seen[flat[at]?.toLowerCase() ?? ""] = flat[at + 1] ?? "";
  assert.equal(body.includes("6.6.6.6"), false);
  assert.equal(seen["x-forwarded-for"], "127.0.0.1");
  assert.equal(seen.forwarded, `for=127.0.0.1;host="${host}";proto=http`);
  assert.deepEqual(
    [seen["x-forwarded-proto"], seen["x-forwarded-host"], seen["x-forwarded-port"]],
    ["http", host, "80"],
  );
  assert.deepEqual([seen["x-own"], seen["x-secret"], seen.te], ["2", undefined, undefined]);
  assert.deepEqual([seen.x_forwarded_for, seen.transfer_encoding], [undefined, undefined]);
  assert.deepEqual([seen["x-request-id"], seen.traceparent, seen.via], ["mine", trace, "1.1 hearth"]);
  assert.equal(headers["x-request-id"], "mine");
});

test("a body is streamed both ways, and the guest answers before it has all of it", async () => {
  await using door = await startDoor();
  await door.guest((request, response) => request.pipe(response));
  const { asking, answer } = begin(door.port, { method: "POST" });
  asking.write("one");
  const got = await answer;
  const chunks = got[Symbol.asyncIterator]();
  assert.equal(String((await chunks.next()).value), "one");
  asking.write("two");
  assert.equal(String((await chunks.next()).value), "two");
  asking.end();
  assert.equal((await chunks.next()).done, true);
});

test("a guest that writes more than its client reads is held back", async () => {
  await using door = await startDoor();
  let written = 0;
  const total = 256 * 1024 * 1024;
  const chunk = Buffer.alloc(1024 * 1024);
  let stalled: () => void = () => undefined;
  const stall = new Promise<void>((resolve) => {
    stalled = resolve;
  });
  await door.guest((_request, response) => {
    const more = (): void => {
      while (written < total) {
        written += chunk.length;
        if (!response.write(chunk)) {
          const timer = setTimeout(stalled, 500);
          response.once("drain", () => {
            clearTimeout(timer);
            more();
          });
          return;
        }
      }
      response.end();
    };
    more();
  });
  const { asking, answer } = begin(door.port);
  asking.end();
  const got = await answer;
  await stall;
  assert.ok(written < total / 4, `${written} bytes were taken of a guest whose client reads nothing`);
  let read = 0;
  for await (const part of got) read += (part as Buffer).length;
  assert.equal(read, total);
});

test("a client that sends more than its guest reads is held back", async () => {
  await using door = await startDoor();
  let release: () => void = () => undefined;
  let read = 0;
  await door.guest((request, response) => {
    release = () => {
      request.on("data", (part: Buffer) => {
        read += part.length;
      });
      request.on("end", () => response.end("read"));
    };
  });
  const { asking, answer } = begin(door.port, { method: "PUT" });
  const chunk = Buffer.alloc(1024 * 1024);
  let sent = 0;
  while (sent < 256) {
    sent += 1;
    if (asking.write(chunk)) continue;
    const drained = once(asking, "drain", { signal: AbortSignal.timeout(500) });
    if ((await drained.catch(() => undefined)) === undefined) break;
  }
  assert.ok(sent < 64, `${sent} MiB were taken for a guest that reads nothing`);
  release();
  asking.end();
  assert.equal(await text(await answer), "read");
  assert.equal(read, sent * chunk.length);
});

test("HEAD, 204, 304 and trailers come as the guest sent them", async () => {
  await using door = await startDoor();
  await door.guest((request, response) => {
    if (request.method === "HEAD") response.writeHead(200, { "content-length": "1000" }).end();
    else if (request.url === "/204") response.writeHead(204).end();
    else if (request.url === "/304") response.writeHead(304, { etag: '"a"' }).end();
    else {
      response.writeHead(
        200,
        [
          ["trailer", "grpc-status"],
          ["set-cookie", "a=1"],
          ["set-cookie", "b=2"],
        ].flat(),
      );
      response.write("body");
      response.addTrailers({ "grpc-status": "0", "set-cookie": "c=3" });
      response.end();
    }
  });
  const head = await ask(door.port, { method: "HEAD" });
  assert.deepEqual([head.status, head.headers["content-length"], head.body], [200, "1000", ""]);
  assert.equal((await ask(door.port, { path: "/204" })).status, 204);
  assert.deepEqual((await ask(door.port, { path: "/304" })).headers.etag, '"a"');
  const trailed = await ask(door.port);
  assert.deepEqual([trailed.body, trailed.trailers], ["body", { "grpc-status": "0" }]);
  assert.deepEqual(trailed.headers["set-cookie"], ["a=1", "b=2"]);
});

test("a client that waits for 100-continue gets it when there is a machine, and the guest gets the body", async () => {
  await using door = await startDoor();
  await door.guest(async (request, response) => {
    response.end(`${request.headers.expect}/${await text(request)}`);
  });
  const { asking, answer } = begin(door.port, { method: "POST", headers: { expect: "100-continue" } });
  asking.flushHeaders();
  await once(asking, "continue");
  asking.end("body");
  assert.equal(await text(await answer), "undefined/body");
  const refused = begin(door.port, {
    method: "POST",
    headers: { expect: "100-continue", host: "no.example.test" },
  });
  refused.asking.on("continue", () => assert.fail("a body that nobody wants was asked for"));
  refused.asking.on("error", () => undefined);
  refused.asking.flushHeaders();
  assert.equal((await refused.answer).statusCode, 404);
  refused.asking.destroy();
});

test("an answer that comes before the body is read reaches the client whole", async () => {
  await using door = await startDoor({ limits: { lingerMs: 300 } });
  await door.guest((_request, response) => response.writeHead(413).end("too much"));
  const { asking, answer } = begin(door.port, { method: "POST", headers: { "content-length": "100000000" } });
  asking.on("error", () => undefined);
  asking.write(Buffer.alloc(1024 * 1024));
  const got = await answer;
  assert.deepEqual([got.statusCode, await text(got)], [413, "too much"]);
  await once(asking, "close");
});

test("what the guest breaks off is broken off, and never looks whole", async () => {
  await using door = await startDoor();
  await door.guest((_request, response) => {
    response.writeHead(200, { "content-length": "100" });
    response.write("half", () => response.destroy());
  });
  await assert.rejects(ask(door.port));
  const event = await door.event(({ event }) => event === "request");
  assert.equal(event.reason, "guest_broke");
  assert.equal(event.machine_id, machineId(1));
});

test("a client that goes away frees its guest", async () => {
  await using door = await startDoor();
  let left: () => void = () => undefined;
  const gone = new Promise<void>((resolve) => {
    left = resolve;
  });
  await door.guest((_request, response) => {
    response.on("close", left);
    response.write("first");
  });
  const { asking, answer } = begin(door.port);
  asking.end();
  await once(await answer, "data");
  asking.on("error", () => undefined).destroy();
  await gone;
  assert.equal((await door.event(({ event }) => event === "request")).reason, "client_left");
});

test("WebSocket: what the guest agrees to is joined, and what it refuses is answered", async () => {
  await using door = await startDoor();
  const { server } = await door.guest((_request, response) => response.writeHead(401).end("who are you"));
  server.on("upgrade", (request, socket) => {
    if (request.url === "/no") {
      socket.end("HTTP/1.1 401 Unauthorized\r\ncontent-length: 11\r\n\r\nwho are you");
      return;
    }
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello ",
    );
    socket.pipe(socket);
  });
  const upgrade = `Connection: Upgrade\r\nUpgrade: websocket\r\nHost: ${host}\r\n\r\n`;
  const socket = connect(door.port, "127.0.0.1");
  socket.write(`GET /ws HTTP/1.1\r\n${upgrade}early `);
  let got = "";
  socket.on("data", (part) => {
    got += part;
    if (got.endsWith("early ")) socket.end("late");
  });
  await once(socket, "close");
  assert.match(got, /^HTTP\/1\.1 101 [\s\S]*\r\n\r\nhello early late$/);
  assert.match(
    await sendRaw(door.port, `GET /no HTTP/1.1\r\n${upgrade}`),
    /^HTTP\/1\.1 401 [\s\S]*who are you$/,
  );
  const h2c = `GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHost: ${host}\r\n\r\n`;
  assert.match(await sendRaw(door.port, h2c), /^HTTP\/1\.1 401 [\s\S]*who are you/, "as a plain request");
  const event = await door.event((each) => each.event === "tunnel");
  assert.deepEqual([event.status, event.machine_id], [101, machineId(1)]);
});

test("a refused upgrade is logged, and whoever resets or keeps its connection harms nobody", async () => {
  await using door = await startDoor({ limits: { lingerMs: 100 } });
  await door.guest((_request, response) => response.end("hello"));
  const upgrade =
    "GET / HTTP/1.1\r\nHost: nobody.example.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
  const resets = connect(door.port, "127.0.0.1").on("error", () => undefined);
  resets.write(upgrade);
  await once(resets, "data");
  resets.resetAndDestroy();
  const stays = connect({ port: door.port, host: "127.0.0.1", allowHalfOpen: true });
  stays.on("error", () => undefined).resume();
  stays.write(upgrade);
  await once(stays, "end");
  const closed = new Promise((resolve) => stays.once("close", resolve));
  const talking = setInterval(() => stays.write("more"), 20);
  await closed;
  clearInterval(talking);
  assert.equal((await door.event(({ reason }) => reason === "unknown_host")).status, 404);
  assert.equal((await ask(door.port)).body, "hello");
});

test("a name that nothing has, and an app that has no machine, each get their own answer", async () => {
  await using door = await startDoor();
  door.put({ id: machineId(7), app: "down", state: "failed", services: [webService(8080)] });
  door.put({ id: machineId(8), app: "raw", services: [{ internal_port: 1, ports: [{ port: 80 }] }] });
  for (const name of ["other.example.test", "web.elsewhere.test", "127.0.0.1", "raw.example.test"]) {
    const unknown = await ask(door.port, { headers: { host: name } });
    assert.deepEqual([unknown.status, unknown.headers["hearth-reason"]], [404, "unknown_host"], name);
  }
  const down = await ask(door.port, { headers: { host: "down.example.test" } });
  assert.deepEqual([down.status, down.headers["hearth-reason"]], [503, "no_machine"]);
  assert.equal(down.headers["retry-after"], "5");
  assert.doesNotMatch(JSON.stringify(down), /raw|web|n1|0{8}/, "no other tenant, no machine and no node");
});

test("a service that wants HTTPS only sends clients of HTTP there", async () => {
  await using door = await startDoor();
  await door.guest(() => assert.fail("not to be forwarded"), {
    service: { ports: [{ port: 80, handlers: ["http"], force_https: true }] },
  });
  const { status, headers } = await ask(door.port, { path: "/a?b=c" });
  assert.deepEqual([status, headers.location], [301, `https://${host}:${door.https}/a?b=c`]);
});

test("a machine that cannot be connected to is passed over, also for a request with a body", async () => {
  await using door = await startDoor();
  const dead = await closedPort();
  for (const number of [2, 3])
    door.put({ id: machineId(number), address: "127.0.0.1", services: [webService(dead)] });
  await door.guest(async (request, response) => response.end(`got ${await text(request)}`));
  for (let round = 0; round < 6; round += 1) {
    const { status, body } = await ask(door.port, { method: "POST" }, "body");
    assert.deepEqual([status, body], [200, "got body"]);
  }
  assert.ok(door.events.some(({ attempts = 1 }) => attempts > 1));
});

test("a request that may have been acted on is not sent again, and one that may be is", async () => {
  await using door = await startDoor();
  const seen: string[] = [];
  await door.guest(
    (request) => {
      seen.push(request.method ?? "");
      request.socket.destroy();
    },
    { id: machineId(2) },
  );
  await door.guest((request) => {
    seen.push(request.method ?? "");
    request.socket.destroy();
  });
  const post = await ask(door.port, { method: "POST" }, "x");
  assert.deepEqual([post.status, post.headers["hearth-reason"], seen], [502, "guest_broke", ["POST"]]);
  seen.length = 0;
  assert.equal((await ask(door.port)).status, 502);
  assert.deepEqual(seen, ["GET", "GET"], "each machine once");
});

test("an answer that is no HTTP is not passed on", async () => {
  await using door = await startDoor();
  const { server } = await door.guest(() => undefined);
  server.on("connection", (socket) => {
    socket.removeAllListeners("data");
    socket.end("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
  });
  const { status } = await ask(door.port);
  assert.equal(status, 502);
});

test("each request leaves one event, with its machine, its route and its times, and no query", async () => {
  await using door = await startDoor();
  await door.guest((_request, response) => response.end("12345"));
  await ask(door.port, { path: "/a?token=secret" });
  const event = await door.event(({ event }) => event === "request");
  const { status, app, route, machine_id, path, method, bytes_out, client, attempts } = event;
  assert.deepEqual(
    { status, app, route, machine_id, path, method, bytes_out, client, attempts },
    {
      ...{ status: 200, app: "web", route: "web:80", machine_id: machineId(1), path: "/a", method: "GET" },
      ...{ bytes_out: 5, client: "127.0.0.1", attempts: 1 },
    },
  );
  assert.ok((event.upstream_ms ?? -1) > 0 && (event.wait_ms ?? -1) >= 0 && event.duration_ms > 0);
});
