/** Whoever is slow slows the other end, through a real WebSocket, API and bus; what lies between is bounded. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { after, before, test } from "node:test";
import { HearthClient, type Target } from "@hearth/sdk";
import { FakePrograms, pieceBytes } from "../testing/fake-programs.ts";
import { startRegion, type TestRegion, testToken, until, untilStill } from "../testing/fixture.ts";

const mebibyte = 1024 * 1024;
const total = 128 * mebibyte;
/**
 * The bus holds a window of 1 MiB and the client half of that; the rest is what the kernel may hold for the two
 * connections on the way (tcp_wmem and tcp_rmem allow some 10 MiB each at most).
 */
const heldLimit = 24 * mebibyte;

const programs = new FakePrograms();
let region: TestRegion;
let client: HearthClient;
let target: Target;
before(async () => {
  region = await startRegion({ streams: programs.handlers });
  client = new HearthClient({ apiUrl: region.url, token: testToken });
  await region.createApp("web");
  const { id } = await client.machines.create("web", { config: { image: "app:1" } });
  target = { app: "web", id };
});
after(async () => region[Symbol.asyncDispose]());

const started = async (command: string[]) => {
  const before = programs.runs.length;
  const session = await client.machines.exec(target, { command, stdin: true });
  await until(() => programs.runs.length > before, "the program");
  const run = programs.last;
  assert.ok(run);
  session.stderr.resume();
  return { session, run };
};

test("128 MiB of output for a slow reader: the program waits, and nothing is lost", async () => {
  const { session, run } = await started(["zeros", String(total)]);
  const stalledAt = await untilStill(() => run.writtenBytes);
  assert.ok(stalledAt > 0 && stalledAt < heldLimit, `${stalledAt} bytes were taken from the program`);
  let size = 0;
  let most = 0;
  for await (const chunk of session.stdout as AsyncIterable<Buffer>) {
    size += chunk.length;
    most = Math.max(most, run.writtenBytes - size);
  }
  assert.equal(size, total);
  assert.ok(most < heldLimit, `${most} bytes were held on the way`);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 0, exit_signal: 0 });
});

test("128 MiB of input for a slow program: the client waits, and nothing is lost", async () => {
  const { session, run } = await started(["sha256", "later"]);
  const hash = createHash("sha256");
  let sent = 0;
  let most = 0;
  const pieces = async function* (): AsyncGenerator<Buffer> {
    for (let index = 0; sent < total; index += 1) {
      const piece = Buffer.alloc(pieceBytes, index % 251);
      hash.update(piece);
      sent += piece.length;
      most = Math.max(most, sent - run.readBytes);
      yield piece;
    }
  };
  const sending = pipeline(Readable.from(pieces()), session.stdin);
  const stalledAt = await untilStill(() => sent);
  assert.ok(stalledAt > 0 && stalledAt < heldLimit, `${stalledAt} bytes were taken from the client`);
  assert.equal(run.readBytes, 0);
  run.letGo();
  const [digest] = await Promise.all([text(session.stdout), sending]);
  assert.equal(digest, hash.digest("hex"));
  assert.equal(run.readBytes, total);
  assert.ok(most < heldLimit, `${most} bytes were held on the way`);
});

test("a session that is stalled in both directions can be left, and one that ends unread input too", async () => {
  const { session, run } = await started(["zeros", String(total)]);
  const endless = async function* (): AsyncGenerator<Buffer> {
    for (;;) yield Buffer.alloc(pieceBytes);
  };
  const sending = assert.rejects(pipeline(Readable.from(endless()), session.stdin));
  await untilStill(() => run.writtenBytes);
  session.close();
  await sending;
  await until(() => run.ended !== undefined, "the end of the program");

  const deaf = await started(["waits"]);
  const flooding = assert.rejects(pipeline(Readable.from(endless()), deaf.session.stdin));
  deaf.run.letGo();
  assert.equal((await deaf.session.exit).kind, "exited");
  await flooding;
});
