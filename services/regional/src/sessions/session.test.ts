/** Sessions of exec and attach, as the SDK drives them over a real WebSocket, bus and API. */
import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { type ExecSession, HearthClient, type Target } from "@hearth/sdk";
import { FakePrograms } from "../testing/fake-programs.ts";
import { startRegion, type TestRegion, testToken, until } from "../testing/fixture.ts";

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
  const session = await client.machines.exec(target, {
    command: ["echo", "hello"],
    user: "www",
    workdir: "/www",
    env: { A: "1" },
  });
  assert.deepEqual(await both(session), ["hello\n", "to the side\n"]);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 7, exit_signal: 0 });
  assert.deepEqual(programs.last?.request, {
    machine_id: target.id,
    command: ["echo", "hello"],
    user: "www",
    workdir: "/www",
    env: { A: "1" },
  });
});

test("the machine's own program is attached to", async () => {
  const session = await client.machines.attach(target);
  assert.deepEqual(await both(session), ["attached\n", "to the side\n"]);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 7, exit_signal: 0 });
});

test("input reaches the program, and its end too", async () => {
  const session = await exec("sha256");
  session.stdin.write("a");
  session.stdin.end("b");
  const [digest] = await both(session);
  assert.equal(digest, "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603");
});

test("signals and sizes reach the program", async () => {
  const session = await exec("obeys");
  session.resize({ cols: 100, rows: 30 });
  session.signal(15);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 0, exit_signal: 15 });
  assert.deepEqual(programs.last?.controls, [
    { kind: "resize", cols: 100, rows: 30 },
    { kind: "signal", signal: 15 },
  ]);
});

test("a program that cannot start is a status, and a machine that does not run a refusal", async () => {
  const status = await (await exec("nothing")).exit;
  assert.deepEqual(status, { kind: "failed", code: "entrypoint_not_found", message: "no nothing" });
  await assert.rejects((await exec("refused")).exit, { code: "vmm_not_running" });
});

test("a machine that is not there is refused before there is a socket", async () => {
  const nobody = { app: "web", id: "00000000000000" };
  await assert.rejects(client.machines.exec(nobody, { command: ["true"] }), { code: "machine_not_found" });
  await assert.rejects(client.machines.attach({ ...target, app: "none" }), { code: "app_not_found" });
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
  const before = programs.runs.length;
  const session = await exec("waits");
  await until(() => programs.runs.length > before, "the program");
  const run = programs.last;
  session.close();
  await until(() => run?.ended !== undefined, "the end of the stream");
  assert.equal(run?.ended, "cancelled");
});

test("each session leaves a line in the log that says how it ended", async () => {
  const before = region.logs.length;
  const session = await exec("true");
  await session.exit;
  const line = () => region.logs.slice(before).find(({ msg }) => msg === "session");
  await until(() => line() !== undefined, "the line");
  const { route, machine_id, ended_by } = line() ?? {};
  assert.deepEqual(
    { route, machine_id, ended_by },
    { route: "/v1/apps/:app/machines/:id/exec/stream", machine_id: target.id, ended_by: "status" },
  );
});

test("a worker that goes away, and an API that ends, are told to the client", async () => {
  const other = new FakePrograms();
  const second = await startRegion({ streams: other.handlers });
  await second.createApp("web");
  const own = new HearthClient({ apiUrl: second.url, token: testToken });
  const { id } = await own.machines.create("web", { config: { image: "app:1" } });
  const start = (command: string[]) => own.machines.exec({ app: "web", id }, { command, stdin: true });
  const orphan = await start(["zeros", String(2 ** 30)]);
  const quiet = await start(["waits"]);
  await orphan.stdout.take(1).toArray();
  await until(() => other.runs.length === 2, "both programs");
  await second.worker.stop();
  await assert.rejects(quiet.exit, { code: "unavailable" });
  await second[Symbol.asyncDispose]();
  await assert.rejects(start(["true"]), { code: "unavailable" });
});
