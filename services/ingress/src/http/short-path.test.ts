/**
 * The short path and Node's server give the same answers, and a connection goes from the one to the other without the
 * client noticing. A head that comes in two pieces is Node's server's: that is how a test chooses.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect, createServer as createNetServer, type Socket } from "node:net";
import { test } from "node:test";
import { until } from "@hearth/testkit";
import { defaultLimits } from "../limits.ts";
import { testHost as host } from "../testing/client.ts";
import { startDoor } from "../testing/door.ts";
import { scriptedGuest } from "../testing/raw-guest.ts";
import { ShortPath } from "./short-path.ts";
import { ShortResponse } from "./short-response.ts";

const get = (path = "/", more = "", method = "GET"): string =>
  `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`;

/** A client that says bytes and keeps what comes. */
async function client(port: number) {
  const socket: Socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  const got = {
    socket,
    text: "",
    isClosed: false,
    async upTo(pattern: RegExp): Promise<string> {
      await until(`${pattern} in ${JSON.stringify(got.text)}`, 10_000, async () => {
        return pattern.test(got.text) || undefined;
      });
      const { text } = got;
      got.text = "";
      return text;
    },
    async closed(): Promise<string> {
      await until("it is closed", 10_000, async () => got.isClosed || undefined);
      return got.text;
    },
    /** In two pieces, that the door reads one by one. */
    async slowly(text: string): Promise<void> {
      socket.write(text.slice(0, 7));
      await new Promise((resolve) => setTimeout(resolve, 50));
      socket.write(text.slice(7));
    },
    [Symbol.dispose](): void {
      socket.destroy();
    },
  };
  socket.on("error", () => undefined);
  socket.on("data", (bytes) => {
    got.text += bytes.toString("latin1");
  });
  socket.once("close", () => {
    got.isClosed = true;
  });
  return got;
}

/** What an answer says, without what is another each time, and with its chunks put together. */
function read(answer: string, isHead: boolean) {
  const [head = "", ...rest] = answer.split("\r\n\r\n");
  const [line, ...headers] = head.split("\r\n");
  const told = headers
    .filter((each) => !/^x-request-id:/i.test(each))
    .map((each) => each.replace(/^date: .* 2\d\d\d .*/i, "date: now"))
    .map((each) => each.replace(/^[^:]*/, (name) => name.toLowerCase()))
    .sort();
  const isChunked = !isHead && told.includes("transfer-encoding: chunked");
  let body = rest.join("\r\n\r\n");
  if (!isChunked) return { line, told, body };
  let whole = "";
  for (let size = -1; size !== 0; ) {
    const end = body.indexOf("\r\n");
    size = Number.parseInt(body.slice(0, end), 16);
    whole += body.slice(end + 2, end + 2 + size);
    body = body.slice(end + 2 + size + (size === 0 ? 0 : 2));
  }
  return { line, told, body: whole, trailers: body };
}

const answers: Readonly<Record<string, string>> = {
  "a length": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nok",
  "no body": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  chunks: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
  trailers: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 3\r\n\r\n",
  "words of its own": "HTTP/1.1 299 As it is\r\nContent-Length: 2\r\n\r\nok",
  "bytes above ASCII": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-B: \xe4\r\n\r\n\xff\x00\x80",
  "no content": "HTTP/1.1 204 No Content\r\nX-C: 1\r\n\r\n",
  "not modified": 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
  "what is between neighbours": "HTTP/1.1 200 OK\r\nConnection: x-d\r\nX-D: 1\r\nContent-Length: 2\r\n\r\nok",
  "a date": "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok",
  "more than is joined": `HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n${"y".repeat(40_000)}`,
  "more, in chunks": `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9c40\r\n${"y".repeat(40_000)}\r\n0\r\n\r\n`,
};

test("the short path answers as Node's server does", async () => {
  await using door = await startDoor();
  const names = Object.keys(answers);
  using _guest = await scriptedGuest(door, (head) => {
    const text = answers[names[Number(/ \/(\d+)/.exec(head)?.[1])] ?? ""] ?? "";
    return head.startsWith("HEAD") ? `${text.split("\r\n\r\n")[0]}\r\n\r\n` : text;
  });
  for (const method of ["GET", "HEAD"])
    for (const [at, name] of names.entries()) {
      const texts: string[] = [];
      for (const isShort of [true, false]) {
        using asking = await client(door.port);
        // The next answer tells that this one has ended.
        const request =
          get(`/${at}`, "", method) + get("/", "Connection: close\r\n").replace(host, "nobody.test");
        if (isShort) {
          asking.socket.write(get(`/${at}`, "", method));
          await until("it answers", 10_000, async () => asking.text !== "" || undefined);
          asking.socket.write(request.slice(get(`/${at}`, "", method).length));
        } else await asking.slowly(request);
        const all = await asking.closed();
        texts.push(all.slice(0, all.indexOf("HTTP/1.1 404")));
      }
      const [short, long] = texts.map((text) => read(text, method === "HEAD"));
      assert.deepEqual(short, long, `${method}, ${name}`);
      assert.ok(short?.line?.startsWith("HTTP/1.1 "), JSON.stringify(texts));
    }
});

test("only what is not short is handed to the server", async () => {
  const server = createServer();
  const handed: string[] = [];
  server.removeAllListeners("connection").on("connection", (socket: Socket) => {
    socket.on("data", (bytes) => handed.push(String(bytes)));
  });
  const proxy = {
    handle: (_request: unknown, response: unknown) => {
      assert.ok(response instanceof ShortResponse);
      response.writeHead(200, ["content-length", "2"]);
      response.end("ok");
    },
  };
  const listener = { publicPort: 80, httpsPort: 443, secure: false };
  const short = new ShortPath({ proxy, limits: defaultLimits, listener, server });
  await using door = createNetServer((socket) => short.take(socket)).listen(0, "127.0.0.1");
  await once(door, "listening");
  using asking = await client((door.address() as AddressInfo).port);
  for (let round = 0; round < 3; round += 1) {
    asking.socket.write(get());
    await asking.upTo(/ok$/);
  }
  assert.equal(handed.length, 0);
  asking.socket.write(get("/").slice(0, 9));
  await until("it is handed over", 10_000, async () => handed.length === 1 || undefined);
  assert.deepEqual(handed, [get("/").slice(0, 9)], "with what was read of it");
});

const notShort: Readonly<Record<string, readonly [bytes: string, answered: RegExp]>> = {
  "a body": [`${get("/a", "Content-Length: 2\r\n", "POST")}ab`, /^HTTP\/1\.1 200 OK[\s\S]*\/a$/],
  "HTTP/1.0": [get("/a").replace("1.1", "1.0"), /^HTTP\/1\.1 200 OK[\s\S]*\/a$/],
  "the last request": [get("/a", "Connection: close\r\n"), /^HTTP\/1\.1 200 OK[\s\S]*close[\s\S]*\/a$/i],
  "what is asked for first": [
    `${get("/a", "Expect: 100-continue\r\nContent-Length: 2\r\n", "POST")}ab`,
    /^HTTP\/1\.1 100 Continue[\s\S]*200 OK[\s\S]*\/a$/,
  ],
  "what is no HTTP": ["hello\r\n\r\n", /^HTTP\/1\.1 400 /],
  "two lengths": [get("/a", "Content-Length: 0\r\nContent-Length: 0\r\n"), /^HTTP\/1\.1 400 /],
  "many headers": [
    get("/a", Array.from({ length: 60 }, (_, at) => `X-${at}: 1\r\n`).join("")),
    /^HTTP\/1\.1 200 OK[\s\S]*\/a$/,
  ],
};
for (const [name, [bytes, answered]] of Object.entries(notShort))
  test(`after short requests there may be ${name}`, async () => {
    await using door = await startDoor();
    await door.guest((request, response) =>
      request.on("data", () => undefined).on("end", () => response.end(request.url)),
    );
    using asking = await client(door.port);
    for (let round = 0; round < 3; round += 1) {
      asking.socket.write(get(`/${round}`));
      await asking.upTo(new RegExp(`/${round}$`));
    }
    asking.socket.write(bytes);
    await asking.upTo(answered);
  });

test("requests that come one behind another are answered in order, at once or while one is answered", async () => {
  await using door = await startDoor();
  await door.guest((request, response) => {
    if (request.url === "/slow") setTimeout(() => response.end("slow"), 100);
    else response.end(request.url);
  });
  using together = await client(door.port);
  together.socket.write(Array.from({ length: 50 }, (_, at) => get(`/${at}`)).join(""));
  const paths = (await together.upTo(/\/49$/)).match(/\/\d+(?=HTTP|$)/g);
  assert.deepEqual(
    paths,
    Array.from({ length: 50 }, (_, at) => `/${at}`),
  );
  using early = await client(door.port);
  early.socket.write(get("/slow"));
  await new Promise((resolve) => setTimeout(resolve, 30));
  for (const path of ["/1", "/2"]) early.socket.write(get(path));
  assert.match(await early.upTo(/\/2$/), /slowHTTP[\s\S]*\/1HTTP[\s\S]*\/2$/);
});

test("a client that leaves, or closes its half, has its request ended at the guest", async () => {
  await using door = await startDoor();
  for (const leave of ["destroy", "end"] as const) {
    const aborted = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    const { server } = await door.guest((_request, response) => {
      response.once("close", () => aborted.resolve());
      asked.resolve();
    });
    using asking = await client(door.port);
    asking.socket.write(get());
    await asked.promise;
    asking.socket[leave]();
    await aborted.promise;
    await door.event(({ reason }) => reason === "client_left");
    server.close();
  }
});

test("a connection without a request is answered 408, and one between two requests is closed", async () => {
  await using door = await startDoor({ limits: { headersMs: 300, keepAliveMs: 300, lingerMs: 100 } });
  await door.guest((_request, response) => response.end("ok"));
  using silent = await client(door.port);
  using idle = await client(door.port);
  idle.socket.write(get());
  assert.match(await idle.upTo(/ok$/), /Keep-Alive: timeout=0/);
  assert.match(await silent.closed(), /^HTTP\/1\.1 408 /);
  assert.equal(await idle.closed(), "");
});

test("a door that stops in the middle of an answer closes its connection behind it", async () => {
  const door = await startDoor({ limits: { drainMs: 60_000 } });
  const begun = Promise.withResolvers<() => void>();
  await door.guest((_request, response) => {
    response.writeHead(200, { "content-length": "8" }).write("firs");
    begun.resolve(() => response.end("last"));
  });
  using busy = await client(door.port);
  busy.socket.write(get());
  const answer = await begun.promise;
  await busy.upTo(/keep-alive[\s\S]*firs$/);
  const stopped = door[Symbol.asyncDispose]();
  answer();
  assert.equal(await busy.closed(), "last");
  await stopped;
});

test("a door that stops closes what is idle, and says so to who is answered still", async () => {
  const door = await startDoor({ limits: { drainMs: 5_000 } });
  const asked = Promise.withResolvers<() => void>();
  await door.guest((request, response) => {
    if (request.url === "/slow") asked.resolve(() => response.end("slow"));
    else response.end("ok");
  });
  using idle = await client(door.port);
  using busy = await client(door.port);
  idle.socket.write(get());
  await idle.upTo(/ok$/);
  busy.socket.write(get("/slow"));
  const answer = await asked.promise;
  const stopped = door[Symbol.asyncDispose]();
  await idle.closed();
  answer();
  assert.match(await busy.closed(), /Connection: close[\s\S]*slow$/);
  await stopped;
});
