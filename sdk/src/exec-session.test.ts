import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { HearthClient, startFakeApi, type Target } from "../mod.ts";

const mebibyte = 1024 * 1024;

async function machine() {
  const api = await startFakeApi();
  const client = new HearthClient(api);
  await client.apps.ensure("web");
  const { id } = await client.machines.create("web", { config: { image: "demo:latest" } });
  const target: Target = { app: "web", id };
  await client.machines.wait(target, { states: ["started"], timeoutMs: 10_000 });
  return { api, client, target };
}

test("a program's streams and its exit come back", async () => {
  const { api, client, target } = await machine();
  await using _ = api;
  const session = await client.machines.exec(target, {
    command: ["sh", "-c", "echo out; echo err >&2; exit 5"],
  });
  assert.deepEqual(await Promise.all([text(session.stdout), text(session.stderr)]), ["out\n", "err\n"]);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 5, exit_signal: 0 });
});

test("stdin arrives whole and its end is seen", async () => {
  const { api, client, target } = await machine();
  await using _ = api;
  const session = await client.machines.exec(target, { command: ["wc", "-c"], stdin: true });
  session.stderr.resume();
  session.stdin.write(Buffer.alloc(3 * mebibyte + 7));
  session.stdin.end();
  assert.equal((await text(session.stdout)).trim(), String(3 * mebibyte + 7));
});

test("a slow reader stops the program, little is held meanwhile, and nothing is lost", async () => {
  const { api, client, target } = await machine();
  await using _ = api;
  const wanted = 96 * mebibyte;
  const command = ["head", "-c", String(wanted), "/dev/zero"];
  const session = await client.machines.exec(target, { command });
  session.stderr.resume();
  session.stdout.pause();
  await delay(500);
  assert.ok(session.stdout.readableLength < mebibyte, `${session.stdout.readableLength} bytes are held`);
  let most = 0;
  let size = 0;
  for await (const chunk of session.stdout as AsyncIterable<Buffer>) {
    size += chunk.length;
    most = Math.max(most, session.stdout.readableLength);
  }
  assert.equal(size, wanted);
  assert.ok(most < mebibyte, `${most} bytes were held`);
  assert.equal((await session.exit).kind, "exited");
});

test("a program that does not read stops the writer", async () => {
  const { api, client, target } = await machine();
  await using _ = api;
  await using session = await client.machines.exec(target, { command: ["sleep", "100"], stdin: true });
  session.stdout.resume();
  session.stderr.resume();
  const piece = Buffer.alloc(256 * 1024);
  let taken = 0;
  const endless = async function* (): AsyncGenerator<Buffer> {
    for (;;) {
      taken += piece.length;
      yield piece;
    }
  };
  const writing = assert.rejects(pipeline(endless, session.stdin), { code: "ERR_STREAM_PREMATURE_CLOSE" });
  await delay(1000);
  const stalled = taken;
  await delay(300);
  assert.equal(taken, stalled, "the writer goes on");
  assert.ok(taken < 64 * mebibyte, `${taken} bytes were taken`);
  session.close();
  await writing;
});

test("signals and sizes reach the program", async () => {
  const { api, client, target } = await machine();
  await using _ = api;
  const session = await client.machines.exec(target, {
    command: ["sleep", "100"],
    tty: { cols: 80, rows: 24 },
  });
  session.stdout.resume();
  session.stderr.resume();
  session.resize({ cols: 100, rows: 30 });
  session.signal(15);
  assert.deepEqual(await session.exit, { kind: "exited", exit_code: 0, exit_signal: 15 });
  assert.deepEqual(api.sessions.slice(1), [
    { kind: "resize", cols: 100, rows: 30 },
    { kind: "signal", signal: 15 },
  ]);
});

test("a refusal is an error before the session, a program that is not there a status", async () => {
  const { api, client, target } = await machine();
  await using _ = api;
  const nobody = { ...target, id: "0".repeat(14) };
  await assert.rejects(client.machines.exec(nobody, { command: ["true"] }), { code: "machine_not_found" });
  const session = await client.machines.exec(target, { command: ["/no/such/program"] });
  session.stdout.resume();
  session.stderr.resume();
  const status = await session.exit;
  assert.equal(status.kind === "failed" && status.code, "entrypoint_not_found");
});

test("a connection that ends before the program rejects the exit and fails the streams", async () => {
  const { api, client, target } = await machine();
  const session = await client.machines.exec(target, { command: ["sleep", "100"] });
  session.stderr.resume();
  const output = assert.rejects(text(session.stdout), { code: "guest_channel_broken" });
  await api[Symbol.asyncDispose]();
  await assert.rejects(session.exit, { code: "guest_channel_broken" });
  await output;
});

test("leaving ends the program", async () => {
  const { api, client, target } = await machine();
  await using _ = api;
  const session = await client.machines.exec(target, { command: ["sh", "-c", "echo $$; exec sleep 100"] });
  const [line] = (await session.stdout.take(1).toArray()) as [Buffer];
  session.close();
  const pid = Number(line.toString());
  const isThere = (): boolean => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  for (let waited = 0; isThere() && waited < 5000; waited += 20) await delay(20);
  assert.equal(isThere(), false);
});
