/** What counts as a short request, and that nothing of one connection is left for the next. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultLimits } from "../limits.ts";
import { WholeRequests } from "./whole-requests.ts";

const whole = "GET /own HTTP/1.1\r\nHost: a.test\r\n\r\n";
const own = { method: "GET", url: "/own", headers: ["Host", "a.test"] };
const read = (reader: WholeRequests, text: string) => reader.read(Buffer.from(text, "latin1"));

const others: Readonly<Record<string, string>> = {
  "nothing yet": "\r\n",
  "a head in pieces": "GET /other HTTP/1.1\r\nHost: b.test\r\nX-Rest: ",
  "a header in pieces": "GET /other HTTP/1.1\r\nHost: b.t",
  "a body": "POST /other HTTP/1.1\r\nHost: b.test\r\nContent-Length: 2\r\n\r\nab",
  "a body that is to come": "POST /other HTTP/1.1\r\nHost: b.test\r\nContent-Length: 2\r\n\r\n",
  chunks: "POST /other HTTP/1.1\r\nHost: b.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "two requests": whole + whole,
  "more than one request": `${whole}GET`,
  "an older version": "GET /other HTTP/1.0\r\nHost: b.test\r\nConnection: keep-alive\r\n\r\n",
  "the last of its connection": "GET /other HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n",
  "another protocol":
    "GET /other HTTP/1.1\r\nHost: b.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
  "an expectation": "GET /other HTTP/1.1\r\nHost: b.test\r\nExpect: 100-continue\r\n\r\n",
  "a method of its own": "PURGE /other HTTP/1.1\r\nHost: b.test\r\n\r\n",
  "a tunnel": "CONNECT b.test:80 HTTP/1.1\r\nHost: b.test\r\n\r\n",
  "a name with a blank": "GET /other HTTP/1.1\r\nHost : b.test\r\n\r\n",
  "a folded line": "GET /other HTTP/1.1\r\nHost: b.test\r\n x\r\n\r\n",
  "lines that end by LF": "GET /other HTTP/1.1\nHost: b.test\n\n",
  "headers beyond their number": `GET /other HTTP/1.1\r\n${"X: 1\r\n".repeat(defaultLimits.headers + 1)}\r\n`,
  "headers beyond their size": `GET /other HTTP/1.1\r\nX: ${"x".repeat(defaultLimits.headerBytes)}\r\n\r\n`,
};

for (const [name, text] of Object.entries(others))
  test(`not short is ${name}, and the next connection's request is its own`, () => {
    const reader = new WholeRequests(defaultLimits);
    for (let round = 0; round < 2; round += 1) {
      assert.equal(read(reader, text), undefined);
      assert.deepEqual(read(reader, whole), own);
    }
  });

test("short are all common methods without a body", () => {
  const reader = new WholeRequests(defaultLimits);
  for (const method of ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH"])
    assert.equal(
      read(reader, `${method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n`)?.method,
      method,
    );
});
