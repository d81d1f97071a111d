import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import {
  decodeExecFrame,
  type ExecFrame,
  encodeExecFrame,
  type LogEntry,
  type MachineAnswer,
  type MachineEvent,
  type MachineExplanation,
} from "@hearth/machine";
import { agentProgram } from "./testing/agent-guest.ts";
import { startWorker, type WorkerFixture } from "./testing/worker-fixture.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";
const is = (code: HearthErrorCode) => (error: unknown) => error instanceof HearthError && error.code === code;
const sh = (script: string) => ({ init: { exec: ["/bin/sh", "-c", script] } });
const types = (events: readonly MachineEvent[]) => events.map(({ type, status }) => `${type}:${status}`);

async function frames(stream: AsyncIterable<Uint8Array>): Promise<ExecFrame[]> {
  const all: ExecFrame[] = [];
  for await (const message of stream) all.push(decodeExecFrame(message));
  return all;
}

const textOf = (all: readonly ExecFrame[], channel: "stdout" | "stderr") =>
  all.map((frame) => (frame.channel === channel ? Buffer.from(frame.data).toString() : "")).join("");

async function exec(worker: WorkerFixture, id: string, script: string, input?: string) {
  const command = ["/bin/sh", "-c", script];
  const stream = await worker.stream("exec", { machine_id: id, command, stdin: input !== undefined });
  if (input !== undefined) {
    await stream.write(encodeExecFrame({ channel: "stdin", data: Buffer.from(input) }));
    await stream.write(encodeExecFrame({ channel: "close", closes: "stdin" }));
  }
  const all = await frames(stream);
  const last = all.at(-1);
  return {
    stdout: textOf(all, "stdout"),
    stderr: textOf(all, "stderr"),
    status: last?.channel === "status" ? last.status : undefined,
  };
}

const nothingHeld = (worker: WorkerFixture) => {
  assert.deepEqual(worker.rows("SELECT kind, key FROM resources WHERE machine_id NOT LIKE 'pool%'"), []);
  assert.deepEqual([...worker.slots], []);
  assert.deepEqual([...worker.holders], []);
  assert.deepEqual(worker.host.running, []);
};

describe("a worker", { skip, timeout: 120_000 }, () => {
  test("a machine is created, runs programs, stops, starts and is destroyed", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({ env: { SIZE: "big" } });
    const { id } = record;
    assert.equal(record.state, "starting");
    assert.match(record.private_ip, /^fd12:3456:789a:1:/);
    const started = await worker.state(id, "started");
    assert.deepEqual(types(started.events), ["start:started", "launch:created"]);
    assert.equal(worker.slots.size, 1);
    assert.deepEqual([...worker.holders], [id]);

    const told = await exec(worker, id, "echo $COLOUR $SIZE $FLY_MACHINE_ID; cat; echo no >&2; exit 7", "in");
    assert.deepEqual(told, {
      stdout: `red big ${id}\nin`,
      stderr: "no\n",
      status: { kind: "exited", exit_code: 7, exit_signal: 0 },
    });

    const again = (await worker.command("start", { machine_id: id })) as MachineAnswer;
    assert.equal(again.record.state, "started", "starting what runs is fine");
    await worker.command("stop", { machine_id: id });
    const stopped = await worker.state(id, "stopped");
    assert.deepEqual(types(stopped.events).slice(0, 2), ["exit:stopped", "stop:stopping"]);
    const exit = stopped.events[0]?.request?.exit_event;
    assert.equal(exit?.requested_stop, true);
    assert.equal(exit?.signal, 15, "the image's own signal");
    assert.equal(worker.slots.size, 0);
    assert.deepEqual(worker.host.running, []);
    await assert.rejects(worker.command("ps", { machine_id: id }), is("vmm_not_running"));

    await worker.command("start", { machine_id: id });
    const restarted = await worker.state(id, "started");
    assert.equal(restarted.private_ip, record.private_ip);
    await assert.rejects(worker.command("destroy", { machine_id: id }), is("illegal_transition"));
    await worker.command("destroy", { machine_id: id, force: true });
    await worker.state(id, "destroyed");
    nothingHeld(worker);
    assert.deepEqual(await worker.command("list", {}), []);
  });

  test("of requests of two hosts that wake a machine at the same time, one start comes", async () => {
    await using worker = await startWorker();
    const service = {
      protocol: "tcp",
      internal_port: 80,
      ports: [{ port: 80, handlers: ["http"] }],
    } as const;
    const { record } = await worker.create({ services: [service] });
    const { id } = record;
    await worker.state(id, "started");
    await worker.command("stop", { machine_id: id });
    await worker.state(id, "stopped");
    const wakes = [1, 2, 3].map(() => worker.command("wake", { machine_id: id }));
    for (const answer of (await Promise.all(wakes)) as MachineAnswer[])
      assert.equal(answer.record.state, "starting");
    const started = await worker.state(id, "started");
    assert.equal(types(started.events).filter((type) => type.startsWith("start:starting")).length, 1);
    const { runs } = (await worker.command("explain", { machine_id: id })) as MachineExplanation;
    assert.equal(
      runs.filter(({ kind }) => kind === "machine-start").length,
      2,
      "of the create, and of the wakes",
    );
    const again = (await worker.command("wake", { machine_id: id })) as MachineAnswer;
    assert.equal(again.record.state, "started");
  });

  test("a request wakes no machine whose owner says so, or that is cordoned, or has failed", async () => {
    await using worker = await startWorker();
    const service = { protocol: "tcp", internal_port: 80, ports: [{ port: 80 }] } as const;
    const none = await worker.create({}, false);
    const kept = await worker.create({ services: [{ ...service, autostart: false }] }, false);
    const down = await worker.create({ services: [service], disable_machine_autostart: true }, false);
    const cordoned = await worker.create({ services: [service] }, false);
    await worker.command("cordon", { machine_id: cordoned.record.id });
    for (const { record } of [none, kept, down, cordoned]) {
      const wake = worker.command("wake", { machine_id: record.id });
      await assert.rejects(wake, is("conflict"), JSON.stringify(record.config.services));
      assert.equal((await worker.state(record.id, "created")).state, "created");
    }
  });

  test("machines are listed page by page, each of them in one message of the bus", async () => {
    await using worker = await startWorker();
    const env = { LARGE: "x".repeat(60_000) };
    for (let count = 0; count < 20; count += 1) await worker.create({ env }, false);
    const pages: string[][] = [];
    for (let after: string | undefined; ; after = pages.at(-1)?.at(-1)) {
      const page = await worker.command("list", after === undefined ? {} : { after });
      if ((page as unknown[]).length === 0) break;
      pages.push((page as { id: string }[]).map(({ id }) => id));
    }
    assert.equal(new Set(pages.flat()).size, 20);
    assert.ok(pages.length >= 3, "60 KB each");
    assert.equal(((await worker.command("list", { limit: 1 })) as unknown[]).length, 1);
  });

  test("an update is another version of the same machine", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create();
    const { id } = record;
    await worker.state(id, "started");
    const instance_id = "01JD0000000000000000000000";
    const config = { image: "local/box:1", env: { COLOUR: "green" } };
    await assert.rejects(
      worker.command("update", {
        ...{ machine_id: id, instance_id, config, launch: true },
        current_version: "01JD1111111111111111111111",
      }),
      is("conflict"),
    );
    await worker.command("update", { machine_id: id, instance_id, config, launch: true });
    const updated = await worker.until(
      id,
      (fact) => fact.record.state === "started" && fact.record.instance_id === instance_id,
    );
    assert.equal(updated.private_ip, record.private_ip);
    assert.equal((await exec(worker, id, "echo $COLOUR")).stdout, "green\n");
    const versions = (await worker.command("versions", { machine_id: id })) as { version: string }[];
    assert.deepEqual(
      versions.map(({ version }) => version),
      [instance_id, record.instance_id],
    );
  });

  test("exits are recorded, and the policy decides what follows", async () => {
    await using worker = await startWorker();
    const once = await worker.create({ ...sh("exit 3"), restart: { policy: "no" } });
    const stopped = await worker.state(once.record.id, "stopped");
    assert.equal(stopped.events[0]?.request?.exit_event?.exit_code, 3);
    assert.equal(stopped.events[0]?.request?.exit_event?.requested_stop, false);

    const twice = await worker.create({ ...sh("exit 4"), restart: { policy: "on-failure", max_retries: 2 } });
    const given = await worker.state(twice.record.id, "stopped");
    const exits = given.events.filter(({ type }) => type === "exit");
    assert.deepEqual(
      exits.map(({ request }) => request?.exit_event?.restarting),
      [false, true, true],
    );

    const gone = await worker.create({ ...sh("echo bye"), auto_destroy: true });
    await worker.state(gone.record.id, "destroyed");
    nothingHeldBut(worker, [once.record.id, twice.record.id]);
  });

  test("what the user got wrong fails the machine by name and leaves nothing", async () => {
    await using worker = await startWorker();
    const missing = await worker.create({ init: { exec: ["/no/such/program"] } });
    const failed = await worker.state(missing.record.id, "failed");
    assert.equal(failed.events[0]?.request?.error?.code, "entrypoint_not_found");
    assert.equal(failed.events[0]?.request?.error?.step, "process-start");
    nothingHeld(worker);

    worker.refuseImages = new HearthError("image_not_found");
    const imageless = await worker.create();
    const other = await worker.state(imageless.record.id, "failed");
    assert.equal(other.events[0]?.request?.error?.code, "image_not_found");
    nothingHeld(worker);

    const before = worker.rows("SELECT machine_id FROM machines").length;
    const big = { guest: { cpus: 1, memory_mb: 4096 } };
    await assert.rejects(worker.create(big), is("insufficient_capacity"));
    await assert.rejects(worker.create({ image: 7 }), is("invalid_argument"));
    await assert.rejects(worker.create({ colour: "red" }), is("invalid_argument"));
    await assert.rejects(worker.create({ guest: { cpus: 1, memory_mb: 8 } }), is("machine_memory_too_small"));
    assert.equal(worker.rows("SELECT machine_id FROM machines").length, before);
    nothingHeld(worker);
  });

  test("memory is promised once, and a reservation holds it", async () => {
    await using worker = await startWorker();
    const guest = { cpus: 1, memory_mb: 1500 };
    const reserve = (machine_id: string, ttl_ms: number) =>
      worker.command("reserve", { machine_id, guest, ttl_ms });
    await reserve("00000000000001", 60_000);
    await assert.rejects(reserve("00000000000002", 60_000), is("insufficient_capacity"));
    await assert.rejects(worker.create({ guest }), is("insufficient_capacity"));
  });

  test("logs are on the host's disk, with what was before and what comes", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create(
      sh("echo one; echo two >&2; sleep 0.3; echo three; exec sleep 100"),
    );
    await worker.state(record.id, "started");
    const stream = await worker.stream("logs", { machine_id: record.id, follow: true });
    let text = "";
    for await (const message of stream) {
      const entry = JSON.parse(Buffer.from(message).toString()) as LogEntry;
      text += `${entry.stream}: ${Buffer.from(entry.data, "base64").toString()}`;
      if (text.includes("three")) break;
    }
    stream.fail(new HearthError("cancelled"));
    assert.deepEqual(text.split("\n").sort(), ["", "stderr: two", "stdout: one", "stdout: three"]);
    await worker.command("destroy", { machine_id: record.id, force: true });
  });

  test("attach gives the whole output and the end of a program, also after it", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({
      ...sh("echo hi; echo no >&2; exit 7"),
      auto_destroy: true,
      restart: { policy: "no" },
    });
    const all = await frames(await worker.stream("attach", { machine_id: record.id }));
    assert.equal(textOf(all, "stdout"), "hi\n");
    assert.equal(textOf(all, "stderr"), "no\n");
    const status = { kind: "exited", exit_code: 7, exit_signal: 0 };
    assert.deepEqual(all.at(-1), { channel: "status", status });
    await worker.state(record.id, "destroyed");
    const late = await frames(await worker.stream("attach", { machine_id: record.id }));
    assert.equal(textOf(late, "stdout"), "hi\n");
    const broken = await worker.create({ init: { exec: ["/none"] } });
    const failed = await frames(await worker.stream("attach", { machine_id: broken.record.id }));
    assert.match(JSON.stringify(failed), /entrypoint_not_found/);
  });

  test("a worker that comes back finds its machines running, and the exits it missed", async () => {
    await using worker = await startWorker();
    const stays = await worker.create();
    const ends = await worker.create({ ...sh("sleep 0.2; exit 5"), restart: { policy: "no" } });
    await worker.state(stays.record.id, "started");
    await worker.state(ends.record.id, "started");
    const vms = worker.host.running.length;
    await worker.restart();
    assert.ok(worker.host.running.length >= vms - 1);
    const { stdout } = await exec(worker, stays.record.id, "echo here");
    assert.equal(stdout, "here\n");
    const stopped = await worker.state(ends.record.id, "stopped");
    assert.equal(stopped.events[0]?.request?.exit_event?.exit_code, 5);
  });

  test("a VM that ended while the worker was away is an exit, and is started again", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create();
    await worker.state(record.id, "started");
    const [handle] = worker.host.running;
    await worker.restart({}, () => handle && worker.host.crash(handle));
    const again = await worker.until(
      record.id,
      ({ record: now }) => now.state === "started" && now.events.some(({ type }) => type === "restart"),
    );
    assert.match(JSON.stringify(again.events), /ended while its worker was away/);
  });

  test("after a restart of the host, what was wanted runs again", async () => {
    await using worker = await startWorker();
    const runs = await worker.create({ restart: { policy: "no" } });
    const rests = await worker.create({}, false);
    await worker.state(runs.record.id, "started");
    const [handle] = worker.host.running;
    await worker.restart({ bootId: "boot-2" }, () => handle && worker.host.crash(handle));
    const again = await worker.until(
      runs.record.id,
      ({ record }) => record.state === "started" && record.events.length > 2,
    );
    assert.match(JSON.stringify(again.events), /host restarted/);
    await worker.state(rests.record.id, "created");
  });

  test("stop-all takes everything off the host and the next worker brings it back", async () => {
    await using worker = await startWorker();
    const runs = await worker.create({ auto_destroy: true });
    const rests = await worker.create();
    await worker.state(runs.record.id, "started");
    await worker.state(rests.record.id, "started");
    await worker.command("stop", { machine_id: rests.record.id });
    await worker.state(rests.record.id, "stopped");
    await worker.command("stop-all", { timeout_ms: 5_000 });
    assert.equal(worker.slots.size, 0);
    assert.deepEqual(worker.host.running, []);
    await assert.rejects(worker.create(), is("unavailable"));
    await worker.state(runs.record.id, "stopped");
    await worker.restart();
    await worker.state(runs.record.id, "started");
    await worker.state(rests.record.id, "stopped");
  });

  test("a lease keeps others from changing the machine", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({}, false);
    const update = {
      ...{ machine_id: record.id, instance_id: "01JD0000000000000000000000", launch: false },
      ...{ config: { image: "local/box:1" }, lease_ttl_ms: 60_000 },
    };
    const { record: leased } = (await worker.command("update", update)) as MachineAnswer;
    assert.match(leased.nonce ?? "", /^[0-9a-f]{16}$/);
    const target = { machine_id: record.id };
    await worker.state(record.id, "stopped");
    await assert.rejects(worker.command("start", target), is("lease_held"));
    await worker.command("start", { ...target, nonce: leased.nonce });
    await worker.state(record.id, "started");
  });
});

function nothingHeldBut(worker: WorkerFixture, stopped: readonly string[]): void {
  assert.deepEqual([...worker.holders].sort(), [...stopped].sort());
  assert.deepEqual([...worker.slots], []);
  assert.deepEqual(worker.host.running, []);
}
