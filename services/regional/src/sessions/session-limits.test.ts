/** The limits of a session, held against clients that keep to none of them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { encodeExecFrame, maxExecFrameBytes } from "@hearth/machine";
import { WebSocket } from "ws";
import { FakePrograms } from "../testing/fake-programs.ts";
import { startRegion, type TestRegion, testToken, until, untilStill } from "../testing/fixture.ts";
import { execSubprotocol } from "./session-sockets.ts";

const programs = new FakePrograms();
const sessions = 3;
let region: TestRegion;
let path: string;
before(async () => {
  const sessionLimits = { sessions, startWithinMs: 400, pingMs: 40, silenceMs: 120 };
  region = await startRegion({ streams: programs.handlers, sessionLimits });
  await region.createApp("web");
  const { json } = await region.call("POST", "/v1/apps/web/machines", { config: { image: "app:1" } });
  path = `/v1/apps/web/machines/${json.id}/exec/stream`;
});
after(async () => region[Symbol.asyncDispose]());

interface Opening {
  readonly at?: string;
  readonly token?: string;
  readonly protocol?: string | undefined;
  readonly autoPong?: boolean;
}

/** What the server said before it closed: texts and binary frames, and the code. */
interface Heard {
  readonly texts: string[];
  readonly frames: Buffer[];
  code: number | undefined;
}

function open({ at = path, token = testToken, protocol = execSubprotocol, autoPong = true }: Opening = {}) {
  const socket = new WebSocket(
    `${region.url.replace("http", "ws")}${at}`,
    protocol === "" ? [] : [protocol],
    {
      headers: { authorization: `Bearer ${token}` },
      autoPong,
    },
  );
  const heard: Heard = { texts: [], frames: [], code: undefined };
  socket.on("error", () => undefined);
  socket.on("message", (data, isBinary) => {
    if (isBinary) heard.frames.push(data as Buffer);
    else heard.texts.push(String(data));
  });
  socket.once("close", (code) => {
    heard.code = code;
  });
  return { socket, heard };
}

async function opened(opening: Opening = {}) {
  const client = open(opening);
  await once(client.socket, "open", { signal: AbortSignal.timeout(5_000) });
  return client;
}

const closed = (heard: Heard): Promise<void> =>
  until(() => heard.code !== undefined, "the end of the socket");
const refusal = (heard: Heard): { code: string; message: string; error: string } => {
  assert.equal(heard.texts.length, 1);
  assert.equal(heard.frames.length, 0);
  return JSON.parse(heard.texts[0] ?? "");
};

async function refusedWith(
  opening: Opening,
): Promise<{ status: number | undefined; body: { code: string } }> {
  const { socket } = open(opening);
  const [, answer] = await once(socket, "unexpected-response", { signal: AbortSignal.timeout(5_000) });
  let text = "";
  for await (const chunk of answer) text += String(chunk);
  return { status: answer.statusCode, body: JSON.parse(text) };
}

test("an upgrade is refused like any other request", async () => {
  const cases: readonly (readonly [Opening, number, string])[] = [
    [{ token: "wrong" }, 401, "unauthenticated"],
    [{ at: path.replace(/[0-9a-f]{14}/, "00000000000000") }, 404, "machine_not_found"],
    [{ at: path.replace("web", "none") }, 404, "app_not_found"],
    [{ at: "/v1/nothing" }, 404, "not_found"],
    [{ protocol: "other.v1" }, 400, "invalid_argument"],
    [{ protocol: "" }, 400, "invalid_argument"],
  ];
  for (const [opening, status, code] of cases) {
    const answer = await refusedWith(opening);
    assert.deepEqual([answer.status, answer.body.code], [status, code], JSON.stringify(opening));
  }
  const plain = await region.call("GET", path);
  assert.deepEqual([plain.status, plain.json.code], [400, "invalid_argument"]);
  assert.match(plain.json.message, /WebSocket/);
});

test("a start message that is not one is refused by name", async () => {
  const cases: readonly (readonly [start: string | Buffer, code: string, field?: string])[] = [
    ["{", "malformed_json"],
    [Buffer.from("{}"), "malformed_json"],
    ["{}", "invalid_argument", "command"],
    ["[]", "invalid_argument"],
    ['{"command":[]}', "invalid_argument", "command"],
    ['{"command":"sh"}', "invalid_argument", "command"],
    ['{"command":["sh"],"tty":{"cols":0,"rows":1}}', "invalid_argument", "tty.cols"],
    ['{"command":["sh"],"colour":1}', "unknown_field", "colour"],
    ['{"command":["sh"],"machine_id":"00000000000000"}', "unknown_field", "machine_id"],
  ];
  const before = programs.runs.length;
  for (const [start, code, field = ""] of cases) {
    const { socket, heard } = await opened();
    socket.send(start);
    await closed(heard);
    const said = refusal(heard);
    assert.equal(said.code, code, String(start));
    assert.equal(said.error, said.message);
    assert.ok(said.message.includes(field), said.message);
  }
  assert.equal(programs.runs.length, before, "nothing was started");
});

test("a client that sends no start is not waited for", async () => {
  const { heard } = await opened();
  await closed(heard);
  assert.equal(refusal(heard).code, "deadline_exceeded");
});

async function started(command: string[], opening: Opening = {}) {
  const before = programs.runs.length;
  const client = await opened(opening);
  client.socket.send(JSON.stringify({ command, stdin: true }));
  await until(() => programs.runs.length > before, "the program");
  const run = programs.last;
  assert.ok(run);
  return { ...client, run };
}
const ended = (run: { readonly ended: string | undefined }): Promise<void> =>
  until(() => run.ended !== undefined, "the end of the program's stream");

test("text after the start, and a frame that is too large, end the session and its program", async () => {
  const chatty = await started(["waits"]);
  chatty.socket.send("more");
  await closed(chatty.heard);
  assert.equal(refusal(chatty.heard).code, "invalid_argument");
  await ended(chatty.run);

  const large = await started(["waits"]);
  large.socket.send(Buffer.alloc(maxExecFrameBytes + 2));
  await closed(large.heard);
  assert.equal(large.heard.code, 1009);
  await ended(large.run);
});

test("the largest frame passes, also when it is sent before the program is there", async () => {
  const before = programs.runs.length;
  const { socket, heard } = await opened();
  socket.send(JSON.stringify({ command: ["sha256"], stdin: true }));
  socket.send(encodeExecFrame({ channel: "stdin", data: Buffer.alloc(maxExecFrameBytes) }));
  socket.send(encodeExecFrame({ channel: "stdin", data: Buffer.alloc(0) }));
  socket.send(encodeExecFrame({ channel: "close", closes: "stdin" }));
  await closed(heard);
  assert.equal(programs.runs[before]?.readBytes, maxExecFrameBytes);
  assert.equal(heard.code, 1000);
  assert.equal(heard.frames.at(-1)?.[0], 3, "the last frame is the status");
});

test("a node refuses a frame that is none, and the client is told", async () => {
  const { socket, heard, run } = await started(["obeys"]);
  socket.send(Buffer.from([9, 9]));
  await closed(heard);
  assert.equal(refusal(heard).code, "invalid_argument");
  await ended(run);
});

test("there are only so many sessions, and one that ends makes room", async () => {
  const clients = await Promise.all(Array.from({ length: sessions }, () => opened()));
  for (const { socket } of clients) socket.send(JSON.stringify({ command: ["waits"] }));
  const { status, body } = await refusedWith({});
  assert.deepEqual([status, body.code], [503, "unavailable"]);
  clients[0]?.socket.close();
  await closed(clients[0]?.heard as Heard);
  const late = await opened();
  late.socket.send(JSON.stringify({ command: ["true"] }));
  await closed(late.heard);
  assert.equal(late.heard.code, 1000);
  for (const { socket, heard } of clients) {
    socket.terminate();
    await closed(heard);
  }
});

test("a client that leaves is noticed also while nothing is read from it", async () => {
  const { socket, run } = await started(["waits"]);
  const frame = encodeExecFrame({ channel: "stdin", data: Buffer.alloc(maxExecFrameBytes) });
  for (let sent = 0; sent < 256; sent += 1) socket.send(frame);
  assert.ok(await untilStill(() => socket.bufferedAmount), "the server does not read on");
  socket.terminate();
  await ended(run);
  assert.equal(run.ended, "cancelled");
});

test("a client that answers no ping is gone, and its program with it; one that answers stays", async () => {
  const silent = await started(["waits"], { autoPong: false });
  const alive = await started(["waits"]);
  let pings = 0;
  alive.socket.on("ping", () => {
    pings += 1;
  });
  await closed(silent.heard);
  assert.equal(silent.heard.code, 1006);
  await ended(silent.run);
  await until(() => pings > 6, "pings");
  assert.equal(alive.heard.code, undefined);
  alive.run.letGo();
  await closed(alive.heard);
  assert.equal(alive.heard.code, 1000);
});
