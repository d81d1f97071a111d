/** What could be read in two ways, or as two requests: each refused, and no byte of it at a guest. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sendRaw, startDoor } from "./testing-door.ts";

const host = "Host: web.example.test\r\n";
const smuggled = `GET /smuggled HTTP/1.1\r\n${host}\r\n`;
const post = (headers: string, body = "", version = "1.1"): string =>
  `POST / HTTP/${version}\r\n${host}${headers}\r\n${body}`;
const chunked = (body: string): string => post("Transfer-Encoding: chunked\r\n", body);

const corpus: Record<string, string> = {
  "both lengths": post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", `0\r\n\r\n${smuggled}`),
  "both lengths, the other way": post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
  "two lengths": post("Content-Length: 1\r\nContent-Length: 2\r\n", "xx"),
  "two equal lengths": post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"),
  "a list of lengths": post("Content-Length: 1, 1\r\n", "x"),
  "a length with a sign": post("Content-Length: +1\r\n", "x"),
  "a negative length": post("Content-Length: -1\r\n", "x"),
  "a length in hex": post("Content-Length: 0x1\r\n", "x"),
  "a length with a blank within": post("Content-Length: 1 2\r\n", "x"),
  "a length too long for a number": post(`Content-Length: ${"9".repeat(30)}\r\n`, "x"),
  "an empty length": post("Content-Length: \r\n", "x"),
  "a coding before chunked": post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
  "a coding after chunked": post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
  "chunked twice in one": post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
  "chunked twice": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  "chunked and identity": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
  identity: post("Transfer-Encoding: identity\r\n"),
  "what is nearly chunked": post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
  "quoted chunked": post('Transfer-Encoding: "chunked"\r\n', "0\r\n\r\n"),
  "chunked behind a vertical tab": post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
  "chunked with a parameter": post("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n"),
  "an empty coding": post("Transfer-Encoding:\r\nContent-Length: 1\r\n", "x"),
  "chunked in HTTP/1.0": post("Transfer-Encoding: chunked\r\n", `0\r\n\r\n${smuggled}`, "1.0"),
  "a blank before the colon": post("Content-Length : 1\r\n", "x"),
  "a blank before the colon of the coding": post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
  "a folded line": `GET / HTTP/1.1\r\n${host}X: 1\r\n Transfer-Encoding: chunked\r\n\r\n`,
  "a folded coding": post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
  "a blank before the first header": `GET / HTTP/1.1\r\n X: 1\r\n${host}\r\n`,
  "lines that end by LF": "GET / HTTP/1.1\nHost: web.example.test\n\n",
  "one line that ends by LF": `GET / HTTP/1.1\r\n${host}X: 1\nY: 2\r\n\r\n`,
  "a line that ends by CR": `GET / HTTP/1.1\r\n${host}X: 1\rY: 2\r\n\r\n`,
  "NUL in a value": `GET / HTTP/1.1\r\n${host}X: a\0b\r\n\r\n`,
  "NUL in a name": `GET / HTTP/1.1\r\n${host}X\0: a\r\n\r\n`,
  "an empty name": `GET / HTTP/1.1\r\n${host}: a\r\n\r\n`,
  "a name that is no token": `GET / HTTP/1.1\r\n${host}a(b: c\r\n\r\n`,
  "a line without a colon": `GET / HTTP/1.1\r\n${host}abc\r\n\r\n`,
  "two hosts": `GET / HTTP/1.1\r\n${host}Host: other.example.test\r\n\r\n`,
  "two equal hosts": `GET / HTTP/1.1\r\n${host}${host}\r\n`,
  "no host": "GET / HTTP/1.1\r\n\r\n",
  "an empty host": "GET / HTTP/1.1\r\nHost:\r\n\r\n",
  "a list of hosts": "GET / HTTP/1.1\r\nHost: web.example.test, web.example.test\r\n\r\n",
  "a host with a user": "GET / HTTP/1.1\r\nHost: a@web.example.test\r\n\r\n",
  "a host with a path": "GET / HTTP/1.1\r\nHost: web.example.test/x\r\n\r\n",
  "another host in the target": `GET http://other.example.test/ HTTP/1.1\r\n${host}\r\n`,
  "a target with a user": `GET http://a@web.example.test/ HTTP/1.1\r\n${host}\r\n`,
  "another scheme in the target": `GET ftp://web.example.test/ HTTP/1.1\r\n${host}\r\n`,
  "a fragment in the target": `GET /#a HTTP/1.1\r\n${host}\r\n`,
  "a byte above ASCII in the target": `GET /\xff HTTP/1.1\r\n${host}\r\n`,
  "a control in the target": `GET /\x01 HTTP/1.1\r\n${host}\r\n`,
  "a blank in the target": `GET /a b HTTP/1.1\r\n${host}\r\n`,
  "a target without a slash": `GET web HTTP/1.1\r\n${host}\r\n`,
  "an asterisk": `GET * HTTP/1.1\r\n${host}\r\n`,
  "a tab after the method": `GET\t/ HTTP/1.1\r\n${host}\r\n`,
  "a method nobody knows": `GETS / HTTP/1.1\r\n${host}\r\n`,
  "a method in lower case": `get / HTTP/1.1\r\n${host}\r\n`,
  TRACE: `TRACE / HTTP/1.1\r\n${host}\r\n`,
  CONNECT: `CONNECT web.example.test:80 HTTP/1.1\r\n${host}\r\n`,
  "HTTP/0.9": "GET /\r\n\r\n",
  "HTTP/1.2": `GET / HTTP/1.2\r\n${host}\r\n`,
  "HTTP/2.0 without its preface": `GET / HTTP/2.0\r\n${host}\r\n`,
  "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "a version in lower case": `GET / http/1.1\r\n${host}\r\n`,
  "a ClientHello": "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
  "nothing but zeros": "\0".repeat(64),
  "too long a target": `GET /${"a".repeat(40_000)} HTTP/1.1\r\n${host}\r\n`,
  "too large headers": `GET / HTTP/1.1\r\n${host}X: ${"a".repeat(40_000)}\r\n\r\n`,
  "too large a coding in a chunk's size": chunked("fffffffffffffffff\r\nx"),
};

/** The head is in order, so a guest may have it; the body must not become a second request. */
const bodies: Record<string, string> = {
  "a chunk longer than it says": chunked(`1\r\nxyz\r\n0\r\n\r\n${smuggled}`),
  "a chunk's size with a prefix": chunked(`0x1\r\nx\r\n0\r\n\r\n${smuggled}`),
  "a chunk's size with a sign": chunked(`-1\r\nx\r\n0\r\n\r\n${smuggled}`),
  "a chunk's size with a blank": chunked(`1 \r\nx\r\n0\r\n\r\n${smuggled}`),
  "a chunk's size that ends by LF": chunked(`1\nx\r\n0\r\n\r\n${smuggled}`),
  "a chunk that ends by LF": chunked(`1\r\nx\n0\r\n\r\n${smuggled}`),
  "LF in an extension": chunked(`1;a=\nb\r\nx\r\n0\r\n\r\n${smuggled}`),
  "no size": chunked(`\r\nx\r\n0\r\n\r\n${smuggled}`),
  "a folded trailer": chunked(`0\r\nX: 1\r\n y\r\n\r\n${smuggled}`),
};

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
