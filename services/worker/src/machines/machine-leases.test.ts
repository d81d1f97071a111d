/** Leases and cordons at the worker that judges them. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import { type LeaseData, type MachineAnswer, newInstanceId, type WorkerCommandName } from "@hearth/machine";
import { agentProgram } from "../testing/agent-guest.ts";
import { createBy } from "../testing/create-by.ts";
import { startWorker, type WorkerFixture } from "../testing/worker-fixture.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";
const is = (code: HearthErrorCode) => (error: unknown) => error instanceof HearthError && error.code === code;
const config = { image: "local/box:1" };
const instance = () => newInstanceId((length) => crypto.getRandomValues(new Uint8Array(length)), Date.now);

const acquire = async (worker: WorkerFixture, machine_id: string, fields: object = {}) =>
  (await worker.command("lease-acquire", { machine_id, ttl_ms: 60_000, ...fields })) as LeaseData;

async function withClock() {
  let skewMs = 0;
  const sleep = async (ms: number, signal?: AbortSignal): Promise<void> =>
    await new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(signal.reason);
      });
    });
  const worker = await startWorker({ clock: { nowMs: () => Date.now() + skewMs, sleep } });
  const pass = (ms: number): void => {
    skewMs += ms;
  };
  return { worker, pass };
}

describe("leases at the worker", { skip, timeout: 120_000 }, () => {
  test("every change of the machine is gated, and what is refused changes nothing", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create();
    const machine_id = record.id;
    await worker.state(machine_id, "started");
    const { nonce } = await acquire(worker, machine_id, { owner: "ann" });
    const before = worker.rows("SELECT * FROM machines");
    const changes: readonly (readonly [WorkerCommandName, object])[] = [
      ["start", {}],
      ["stop", {}],
      ["restart", {}],
      ["update", { instance_id: instance(), config, launch: false }],
      ["destroy", { force: true }],
      ["signal", { signal: 1 }],
      ["set-metadata", { metadata: { a: "b" } }],
      ["cordon", {}],
      ["uncordon", {}],
      ["lease-acquire", { ttl_ms: 1_000 }],
      ["lease-release", {}],
    ];
    for (const [name, request] of changes)
      for (const theirs of [{}, { nonce: "0000000000000000" }]) {
        const call = worker.command(name, { machine_id, ...request, ...theirs });
        await assert.rejects(call, is("lease_held"), name);
      }
    assert.deepEqual(worker.rows("SELECT * FROM machines"), before);
    const exec = await worker.stream("exec", { machine_id, command: ["/bin/true"] });
    assert.ok((await Array.fromAsync(exec)).length > 0, "running a program changes no machine");

    await worker.command("set-metadata", { machine_id, nonce, metadata: { a: "b" } });
    await worker.command("stop", { machine_id, nonce });
    await worker.state(machine_id, "stopped");
    await worker.command("destroy", { machine_id, nonce });
    await worker.state(machine_id, "destroyed");
    await assert.rejects(acquire(worker, machine_id), is("machine_not_found"));
  });

  test("a lease outlives its worker, and its nonce is told to nobody else", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({}, false);
    const machine_id = record.id;
    await assert.rejects(worker.command("lease-get", { machine_id }), is("lease_not_found"));
    const made = await acquire(worker, machine_id, { owner: "ann", description: "deploy" });
    assert.equal(made.version, record.instance_id);
    await worker.restart();
    const seen = (await worker.command("lease-get", { machine_id })) as LeaseData;
    const { nonce, ...told } = made;
    assert.deepEqual(seen, told);
    const records = [
      await worker.command("get", { machine_id }),
      await worker.command("list", {}),
      await worker.command("events", { machine_id }),
    ];
    assert.equal(JSON.stringify(records).includes(nonce ?? ""), false);
    await assert.rejects(worker.command("start", { machine_id }), is("lease_held"));

    const refreshed = await acquire(worker, machine_id, { nonce, ttl_ms: 120_000 });
    assert.equal(refreshed.nonce, nonce);
    assert.ok(refreshed.expires_at > made.expires_at);
    assert.equal(refreshed.owner, "ann");
    await worker.command("lease-release", { machine_id, nonce });
    await assert.rejects(worker.command("lease-release", { machine_id, nonce }), is("lease_not_found"));
    await worker.command("start", { machine_id });
    await worker.state(machine_id, "started");
  });

  test("an expired lease gates nothing, and cannot be refreshed or released", async () => {
    const { worker, pass } = await withClock();
    await using _ = worker;
    const { record } = await worker.create({}, false);
    const machine_id = record.id;
    const { nonce } = await acquire(worker, machine_id);
    pass(60_001);
    await assert.rejects(worker.command("lease-get", { machine_id }), is("lease_not_found"));
    await assert.rejects(acquire(worker, machine_id, { nonce }), is("lease_not_found"));
    await assert.rejects(worker.command("lease-release", { machine_id, nonce }), is("lease_not_found"));
    await worker.command("set-metadata", { machine_id, metadata: { a: "b" } });
    const next = await acquire(worker, machine_id, { owner: "bob" });
    assert.notEqual(next.nonce, nonce);
    await assert.rejects(worker.command("start", { machine_id, nonce }), is("lease_held"), "the old nonce");
  });

  test("an update by the holder keeps the nonce; a repeat never tells that of somebody else", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({}, false);
    const machine_id = record.id;
    const { nonce } = await acquire(worker, machine_id);
    const instance_id = instance();
    const update = { machine_id, instance_id, config, launch: false, lease_ttl_ms: 60_000, nonce };
    const first = (await worker.command("update", update)) as MachineAnswer;
    assert.equal(first.record.nonce, nonce);
    const repeated = (await worker.command("update", update)) as MachineAnswer;
    assert.equal(repeated.record.nonce, nonce, "who never saw the first answer gets it again");
    await worker.state(machine_id, "stopped");
    await worker.command("lease-release", { machine_id, nonce });
    const { nonce: theirs } = await acquire(worker, machine_id, { owner: "bob" });
    await assert.rejects(worker.command("update", update), is("lease_held"));
    await worker.command("lease-release", { machine_id, nonce: theirs });
    const late = (await worker.command("update", { ...update, nonce: undefined })) as MachineAnswer;
    assert.equal(late.record.nonce, undefined);
  });

  test("a repeated create is told the nonce of its own lease, and not that of a later holder", async () => {
    const { worker, pass } = await withClock();
    await using _ = worker;
    const commit = {
      ...{ machine_id: "000102030405aa", instance_id: instance(), app: "web", name: "one", region: "local" },
      ...{ network: 7, config, launch: false, lease_ttl_ms: 60_000 },
    };
    const create = async () => ((await createBy(worker.command, commit)) as MachineAnswer).record.nonce;
    const nonce = await create();
    assert.match(nonce ?? "", /^[0-9a-f]{16}$/);
    assert.equal(await create(), nonce);
    pass(60_001);
    await acquire(worker, commit.machine_id, { owner: "bob" });
    assert.equal(await create(), undefined);
  });

  test("a cordon is in the record, outlives the worker, and is taken back", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create();
    const machine_id = record.id;
    await worker.state(machine_id, "started");
    assert.equal(record.cordoned, false);
    const { record: cordoned, revision } = (await worker.command("cordon", { machine_id })) as MachineAnswer;
    assert.deepEqual([cordoned.cordoned, cordoned.state], [true, "started"]);
    const again = (await worker.command("cordon", { machine_id })) as MachineAnswer;
    assert.equal(again.revision, revision, "what is so already changes nothing");
    await worker.restart();
    await worker.until(machine_id, (fact) => fact.record.cordoned);
    const update = { machine_id, instance_id: instance(), config, launch: true };
    assert.equal(((await worker.command("update", update)) as MachineAnswer).record.cordoned, true);
    await worker.command("uncordon", { machine_id });
    await worker.until(machine_id, (fact) => !fact.record.cordoned);
  });
});
