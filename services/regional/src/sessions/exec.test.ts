/** A program with one answer. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { FakePrograms } from "../testing/fake-programs.ts";
import { startRegion, type TestRegion, testToken, until } from "../testing/fixture.ts";
import { outputLimitBytes } from "./exec-unary.ts";

const programs = new FakePrograms();
let region: TestRegion;
let path: string;
before(async () => {
  region = await startRegion({ streams: programs.handlers });
  await region.createApp("web");
  const { json } = await region.call("POST", "/v1/apps/web/machines", { config: { image: "app:1" } });
  path = `/v1/apps/web/machines/${json.id}/exec`;
});
after(async () => region[Symbol.asyncDispose]());

const exec = (body: unknown) => region.call("POST", path, body);

test("both outputs and the exit are the answer", async () => {
  const { status, json } = await exec({ command: ["echo", "hello"] });
  assert.equal(status, 200);
  assert.deepEqual(json, { exit_code: 7, exit_signal: 0, stdout: "hello\n", stderr: "to the side\n" });
  assert.deepEqual(programs.last?.request.command, ["echo", "hello"]);
  assert.equal(programs.last?.request.stdin, false);
});

test("a command of one line is split as a shell does", async () => {
  await exec({ cmd: `echo 'two words' "a \\"b\\"" c\\ d`, timeout: 0, container: "" });
  assert.deepEqual(programs.last?.request.command, ["echo", "two words", 'a "b"', "c d"]);
});

test("input reaches the program, and then its end", async () => {
  const stdin = "é".repeat(200_000);
  const { json } = await exec({ command: ["sha256"], stdin });
  assert.equal(json.stdout, createHash("sha256").update(stdin).digest("hex"));
});

test("input that the program does not read does not hold up its answer", async () => {
  // More than the window of a stream, so that its last part never leaves the API.
  const { status } = await exec({ command: ["true"], stdin: "x".repeat(1024 * 1024 - 60), timeout: 5 });
  assert.equal(status, 200);
  const run = programs.last;
  await until(() => run?.ended !== undefined, "the end of the stream");
  assert.notEqual(run?.ended, "deadline_exceeded");
});

test("output beyond the limit is dropped and said so, and the program ends as it would", async () => {
  const bytes = outputLimitBytes * 5;
  const { json } = await exec({ command: ["zeros", String(bytes)] });
  assert.equal(programs.last?.writtenBytes, bytes);
  assert.equal(json.stdout.length, outputLimitBytes);
  assert.equal(json.truncated, true);
  assert.equal(json.exit_code, 0);
});

test("a program that takes too long is ended", async () => {
  const { status, json } = await exec({ command: ["waits"], timeout: 1 });
  assert.equal(status, 408);
  assert.match(json.error, /^deadline_exceeded: /);
  const run = programs.last;
  await until(() => run?.ended !== undefined, "the end of the program");
  assert.equal(run?.ended, "deadline_exceeded");
});

test("a client that leaves ends the program", async () => {
  const before = programs.runs.length;
  const leaving = new AbortController();
  const asked = fetch(`${region.url}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${testToken}`, "content-type": "application/json" },
    body: '{"command":["waits"]}',
    signal: leaving.signal,
  });
  await until(() => programs.runs.length > before, "the program");
  leaving.abort();
  await assert.rejects(asked);
  const run = programs.last;
  await until(() => run?.ended !== undefined, "the end of the program");
  assert.equal(run?.ended, "cancelled");
});

test("what cannot be run is refused with the reason", async () => {
  const cases: readonly (readonly [body: unknown, status: number, code: string])[] = [
    [{ command: ["nothing"] }, 422, "entrypoint_not_found"],
    [{ command: ["refused"] }, 409, "vmm_not_running"],
    [{ command: ["breaks"] }, 504, "guest_unreachable"],
    [{ command: ["mute"] }, 502, "guest_channel_broken"],
    [{}, 400, "invalid_argument"],
    [{ cmd: "  " }, 400, "invalid_argument"],
    [{ cmd: "echo 'open" }, 400, "invalid_argument"],
    [{ command: [] }, 400, "invalid_argument"],
    [{ command: ["true"], container: "side" }, 400, "invalid_argument"],
    [{ command: ["true"], timeout: 3601 }, 400, "invalid_argument"],
    [{ command: ["true"], tty: true }, 400, "unknown_field"],
  ];
  for (const [body, status, code] of cases) {
    const answer = await exec(body);
    assert.deepEqual([answer.status, answer.json.code], [status, code], JSON.stringify(body));
  }
});
