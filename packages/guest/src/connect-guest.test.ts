import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { Duplex } from "node:stream";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { HearthError } from "@hearth/errors";
import { connectGuest, type GuestClient } from "../mod.ts";
import { ExecRequestSchema } from "./gen/hearth/guest/v1/guest_pb.js";
import { buildAgent, LocalAgent, missingForAgent } from "./testing/local-agent.ts";

async function* requests(script: string, input: Iterable<Uint8Array> = []) {
  const start = { argv: ["/bin/sh", "-c", script] };
  yield create(ExecRequestSchema, { request: { case: "start", value: start } });
  for (const value of input) yield create(ExecRequestSchema, { request: { case: "stdin", value } });
  yield create(ExecRequestSchema, { request: { case: "closeStdin", value: {} } });
}

async function exec(client: GuestClient, script: string, input: Iterable<Uint8Array> = []) {
  const stdout: Uint8Array[] = [];
  for await (const { response } of client.exec(requests(script, input))) {
    if (response.case === "stdout") stdout.push(response.value);
    if (response.case === "exited") return { stdout: Buffer.concat(stdout), exit: response.value };
  }
  throw new Error("no exit was reported");
}

suite("connectGuest", { skip: missingForAgent(), timeout: 60_000 }, () => {
  let agent: LocalAgent;
  const dial = () => agent.dial();

  before(() => {
    agent = new LocalAgent(buildAgent());
  });

  after(async () => {
    await agent?.[Symbol.asyncDispose]();
  });

  test("an exec returns what the process wrote and its exit code", async () => {
    await using guest = await connectGuest(await dial());
    const { stdout, exit } = await exec(guest.client, "cat; exit 7", [Buffer.from("hello")]);
    assert.equal(stdout.toString(), "hello");
    assert.deepEqual([exit.code, exit.signal], [7, 0]);
  });

  test("it works over a stream that is no socket", async () => {
    const socket = await dial();
    const plain = Duplex.from({ readable: socket, writable: socket });
    await using guest = await connectGuest(plain);
    const { stdout } = await exec(guest.client, "head -c 3000000 /dev/zero");
    assert.equal(stdout.length, 3_000_000);
    socket.destroy();
  });

  test("calls run at the same time over one stream", async () => {
    await using guest = await connectGuest(await dial());
    const codes = await Promise.all(
      [1, 2, 3, 4].map((code) => exec(guest.client, `sleep 0.1; exit ${code}`)),
    );
    assert.deepEqual(
      codes.map(({ exit }) => exit.code),
      [1, 2, 3, 4],
    );
  });

  test("a missing path is guest_path_not_found", async () => {
    await using guest = await connectGuest(await dial());
    const failed = guest.client
      .stat({ path: "/no/such/path" })
      .catch((error) => Promise.reject(guest.error(error)));
    await assert.rejects(failed, { code: "guest_path_not_found" });
  });

  test("a program or user that the image lacks has a code of its own", async () => {
    await using guest = await connectGuest(await dial());
    for (const [start, code] of [
      [{ argv: ["/no/such/program"] }, "entrypoint_not_found"],
      [{ argv: ["/bin/true"], user: "no-such-user" }, "guest_user_unknown"],
      [{ argv: ["/bin/true"], workdir: "/no/such/directory" }, "guest_path_not_found"],
    ] as const) {
      const failed = guest.client
        .startMain({ ...start, argv: [...start.argv] })
        .catch((error) => Promise.reject(guest.error(error)));
      await assert.rejects(failed, { code });
    }
  });

  test("a stream that breaks fails the calls on it with guest_channel_broken", async () => {
    const socket = await dial();
    await using guest = await connectGuest(socket);
    await guest.client.hello({});
    socket.destroy();
    const failed = guest.client.hello({}).catch((error) => Promise.reject(guest.error(error)));
    await assert.rejects(failed, { code: "guest_channel_broken" });
  });

  test("calls that still run when the connection is let go are cancelled", async () => {
    const guest = await connectGuest(await dial());
    const ended = exec(guest.client, "sleep 600").catch((error) => guest.error(error).code);
    await guest.client.hello({});
    await guest[Symbol.asyncDispose]();
    assert.equal(await ended, "cancelled");
  });

  test("a call to an agent that stopped has a limit", async () => {
    await using guest = await connectGuest(await dial(), { callLimitMs: 100 });
    agent.process.kill("SIGSTOP");
    try {
      const failed = guest.client.hello({}).catch((error) => Promise.reject(guest.error(error)));
      await assert.rejects(failed, { code: "deadline_exceeded" });
    } finally {
      agent.process.kill("SIGCONT");
    }
  });

  test("a stream of an agent that stopped breaks", async () => {
    await using guest = await connectGuest(await dial(), { silenceLimitMs: 200 });
    agent.process.kill("SIGSTOP");
    try {
      const failed = exec(guest.client, "sleep 600").catch((error) => Promise.reject(guest.error(error)));
      await assert.rejects(failed, { code: "guest_channel_broken" });
    } finally {
      agent.process.kill("SIGCONT");
    }
  });

  test("a stream of an agent that lives is not broken by its silence", async () => {
    await using guest = await connectGuest(await dial(), { silenceLimitMs: 50 });
    const { exit } = await exec(guest.client, "sleep 0.5; exit 3");
    assert.equal(exit.code, 3);
    assert.equal((await guest.client.hello({})).protocol, 1);
  });

  test("leaving the loop over a stream ends the call, and with it the process", async () => {
    await using guest = await connectGuest(await dial());
    let pid = 0;
    for await (const { response } of guest.client.exec(requests("exec sleep 600"))) {
      if (response.case === "started") pid = response.value.pid;
      break;
    }
    assert.notEqual(pid, 0);
    const limit = AbortSignal.timeout(10_000);
    while (existsSync(`/proc/${pid}`)) {
      limit.throwIfAborted();
      await delay(10);
    }
  });

  test("an agent that stays silent is guest_unreachable", async () => {
    const silent = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
    await assert.rejects(
      connectGuest(silent, { timeoutMs: 50 }),
      (error) => error instanceof HearthError && error.code === "guest_unreachable",
    );
  });
});
