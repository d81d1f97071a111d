/** Sessions of exec and attach, as the SDK drives them over a real WebSocket, bus and API. */
import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { type ExecSession, HearthClient, type Target } from "@hearth/sdk";
import { FakePrograms } from "./fake-programs.ts";
import { startRegion, type TestRegion, testToken, until } from "./fixture.ts";

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

const exec = (...command: string[]): Promise<ExecSession> =>
  client.machines.exec(target, { command, stdin: true });
const both = (session: ExecSession) => Promise.all([text(session.stdout), text(session.stderr)]);

test("a program's two outputs and its exit come back", async () => {
  const session = await exec("echo", "hello");
  assert.deepEqual(await both(session), ["hello\n", "to the side\n"]);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 7, exit_signal: 0 });
  assert.deepEqual(programs.started.at(-1), {
    machine_id: target.id,
    command: ["echo", "hello"],
    stdin: true,
  });
});

test("the machine's own program is attached to", async () => {
  const session = await client.machines.attach(target);
  assert.deepEqual(await both(session), ["attached\n", "to the side\n"]);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 7, exit_signal: 0 });
});

test("signals and sizes reach the program", async () => {
  const session = await exec("controlled");
  session.resize({ cols: 100, rows: 30 });
  session.signal(15);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 0, exit_signal: 15 });
  assert.deepEqual(programs.controls, [
    { kind: "resize", cols: 100, rows: 30 },
    { kind: "signal", signal: 15 },
  ]);
});

test("a program that cannot start is a status, and a machine that does not run a refusal", async () => {
  const status = await (await exec("nothing")).exit;
  assert.deepEqual(status, { kind: "failed", code: "entrypoint_not_found", message: "no nothing" });
  await assert.rejects((await exec("refused")).exit, { code: "vmm_not_running" });
});

test("a worker that fails in the middle ends the session with a status that says so", async () => {
  const session = await exec("breaks");
  const outputs = both(session);
  const status = await session.exit;
  assert.equal(status.kind === "failed" && status.code, "guest_unreachable");
  assert.deepEqual(await outputs, ["half", ""]);
});

test("a worker that ends without a status is a broken channel", async () => {
  await assert.rejects((await exec("mute")).exit, { code: "guest_channel_broken" });
});

test("a client that leaves ends the program's stream", async () => {
  const before = programs.ended.length;
  const session = await exec("deaf");
  await until(() => programs.started.at(-1)?.command[0] === "deaf", "the program");
  session.close();
  await until(() => programs.ended.length > before, "the end of the stream");
  assert.equal(programs.ended.at(-1), "cancelled");
});
