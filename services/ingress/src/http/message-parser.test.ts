/** What is relied on of the parser in Node, which is no documented part of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type MessageHead, MessageParser } from "./message-parser.ts";

function reader(kind: "request" | "response", isBodiless = false) {
  const heads: MessageHead[] = [];
  const bodies: Buffer[] = [];
  const ends: string[][] = [];
  const parser: MessageParser = new MessageParser(kind, 1_024, {
    onBegin: () => undefined,
    onHead: (head) => {
      heads.push(head);
      return isBodiless;
    },
    onBody: (bytes) => void bodies.push(bytes),
    onEnd: (trailers) => void ends.push(trailers),
  });
  const read = (text: string) => parser.read(Buffer.from(text, "latin1"));
  return { parser, heads, bodies, ends, read };
}

test("all headers are told with the head, however many, and trailers with the end", () => {
  const { heads, ends, read } = reader("response");
  const many = Array.from({ length: 40 }, (_, at) => `h${at}: ${at}\r\n`).join("");
  assert.equal(
    read(`HTTP/1.1 200 OK\r\n${many}Transfer-Encoding: chunked\r\n\r\n0\r\nT: 1\r\n\r\n`),
    undefined,
  );
  assert.equal(heads[0]?.headers.length, 82);
  assert.deepEqual(ends, [["T", "1"]]);
  read("HTTP/1.1 204 No Content\r\nA: b\r\n\r\n");
  assert.deepEqual([heads[1]?.headers, ends[1]], [["A", "b"], []]);
});

test("bytes may be written over when it has read them", () => {
  const { bodies, heads, parser } = reader("response");
  const bytes = Buffer.from("HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nok", "latin1");
  parser.read(bytes);
  bytes.fill(0);
  assert.deepEqual([bodies.map(String), heads[0]?.headers.slice(0, 2)], [["ok"], ["A", "b"]]);
});

test("what is wrong has a code, and is gone after a reset", () => {
  for (const text of ["hello\r\n\r\n", `HTTP/1.1 200 OK\r\nA: ${"x".repeat(2_000)}\r\n\r\n`]) {
    const { heads, parser, read } = reader("response");
    assert.match(read(text)?.code ?? "", /^HPE_/);
    parser.reset();
    assert.equal(read("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), undefined);
    assert.equal(heads.length, 1);
  }
});

test("the end of a connection ends what has no length, and is wrong in what has one", () => {
  const open = reader("response");
  open.read("HTTP/1.1 200 OK\r\n\r\nok");
  assert.deepEqual([open.parser.end(), open.ends.length], [undefined, 1]);
  const cut = reader("response");
  cut.read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok");
  assert.ok(cut.parser.end() instanceof Error);
  assert.equal(cut.ends.length, 0);
});

test("the answer to HEAD has no body, and one to a request of another protocol is told as such", () => {
  const bodiless = reader("response", true);
  bodiless.read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
  assert.equal(bodiless.ends.length, 2);
  const other = reader("request");
  other.read("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
  assert.equal(other.heads[0]?.isUpgrade, true);
});

test("it may be closed while it reads", async () => {
  const parser: MessageParser = new MessageParser("response", 1_024, {
    onBegin: () => undefined,
    onHead: () => false,
    onBody: () => undefined,
    onEnd: () => {
      parser.close();
      parser.close();
    },
  });
  parser.read(Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "latin1"));
  await new Promise((resolve) => setImmediate(resolve));
});

test("a message is told at its first byte, and blank lines before it are none", () => {
  let begins = 0;
  const nothing = (): void => undefined;
  const parser = new MessageParser("request", 1_024, {
    onBegin: () => {
      begins += 1;
    },
    ...{ onHead: () => false, onBody: nothing, onEnd: nothing },
  });
  const read = (text: string): number => {
    assert.equal(parser.read(Buffer.from(text, "latin1")), undefined);
    return begins;
  };
  assert.equal(read("\r\n"), 0);
  assert.equal(read("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 1);
  assert.equal(read("G"), 2);
});
