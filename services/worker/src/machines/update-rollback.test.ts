/** An update whose version cannot start, decided purely and then through a worker. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { MachineAnswer, MachineFact, MachineRecord } from "@hearth/machine";
import { openWorkerDatabase } from "../journal/database-open.ts";
import { agentProgram } from "../testing/agent-guest.ts";
import { startWorker, type WorkerFixture } from "../testing/worker-fixture.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";
const is = (code: HearthErrorCode) => (error: unknown) => error instanceof HearthError && error.code === code;
const next = "7ZZZZZZZZZZZZZZZZZZZZZZZZA";
const afterNext = "7ZZZZZZZZZZZZZZZZZZZZZZZZB";
const noSuchProgram = { image: "local/box:1", init: { exec: ["/no/such/program"] } };
const good = { image: "local/box:1", env: { COLOUR: "green" } };

async function update(worker: WorkerFixture, id: string, config: object, launch: boolean, version = next) {
  const request = { machine_id: id, instance_id: version, config, launch };
  return (await worker.command("update", request)) as MachineAnswer;
}

/** The fact of a machine that is back, at rest. */
async function back(worker: WorkerFixture, id: string, state: string): Promise<MachineFact> {
  let seen: MachineFact | undefined;
  await worker.until(id, (fact) => {
    seen = fact;
    return fact.record.state === state && fact.failed_update !== undefined;
  });
  assert.ok(seen !== undefined);
  return seen;
}

function assertTold(record: MachineRecord, from: string, code: string, step: string): void {
  const told = record.events.find(({ type, source }) => type === "update" && source === "flyd");
  assert.deepEqual(told?.request?.rolled_back, { from, to: record.instance_id });
  assert.equal(told?.request?.error?.code, code);
  assert.equal(told?.request?.error?.step, step);
  assert.notEqual(told?.request?.error?.message, "");
}

async function versionsOf(worker: WorkerFixture, id: string): Promise<string[]> {
  const versions = (await worker.command("versions", { machine_id: id })) as { version: string }[];
  return versions.map(({ version }) => version);
}

describe("an update that cannot start", { skip, timeout: 120_000 }, () => {
  test("takes a machine that ran back to the version before it, running", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({ env: { COLOUR: "blue" } });
    await worker.state(record.id, "started");
    await update(worker, record.id, noSuchProgram, true);
    const { record: now, failed_update } = await back(worker, record.id, "started");
    assert.equal(now.instance_id, record.instance_id);
    assert.deepEqual(now.config, record.config);
    assertTold(now, next, "entrypoint_not_found", "process-start");
    assert.equal(failed_update?.version, next);
    assert.deepEqual(await versionsOf(worker, record.id), [next, record.instance_id]);
    assert.deepEqual([...worker.imageHolds], [`${record.id}.${record.instance_id}`]);
    assert.equal(worker.host.running.length, 1);
    assert.equal(worker.slots.size, 1);
    await assert.rejects(update(worker, record.id, noSuchProgram, true), is("update_rolled_back"));

    await update(worker, record.id, good, true, afterNext);
    const mended = await worker.until(
      record.id,
      (fact) => fact.record.state === "started" && fact.failed_update === undefined,
    );
    assert.equal(mended.instance_id, afterNext);
    // The hold of the version before goes once the new one has run.
    const limit = Date.now() + 10_000;
    while (worker.imageHolds.size > 1 && Date.now() < limit)
      await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([...worker.imageHolds], [`${record.id}.${afterNext}`]);
    await worker.command("destroy", { machine_id: record.id, force: true });
    await worker.state(record.id, "destroyed");
    assert.deepEqual([...worker.imageHolds], []);
  });

  test("needs no registry to go back, and the same bytes run again", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create();
    await worker.state(record.id, "started");
    worker.refuseImages = new HearthError("image_not_found");
    await update(worker, record.id, { image: "local/none:1" }, true);
    const { record: now } = await back(worker, record.id, "started");
    assertTold(now, next, "image_not_found", "image");
    assert.equal(now.image_ref.digest, `sha256:${"0".repeat(64)}`);
    assert.equal(now.image_ref.repository, "local/box");
  });

  test("leaves a machine that was stopped stopped, once somebody starts it", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({}, false);
    const launched = await update(worker, record.id, noSuchProgram, true);
    assert.equal(launched.record.state, "replacing");
    const first = await back(worker, record.id, "stopped");
    assert.equal(first.record.instance_id, record.instance_id);

    await update(worker, record.id, noSuchProgram, false, afterNext);
    await worker.until(record.id, (fact) => fact.record.state === "stopped" && !("failed_update" in fact));
    await worker.command("start", { machine_id: record.id });
    const { record: now } = await back(worker, record.id, "stopped");
    assert.equal(now.instance_id, record.instance_id);
    assertTold(now, afterNext, "entrypoint_not_found", "process-start");
    assert.deepEqual(worker.host.running, []);
    assert.deepEqual(
      worker.rows("SELECT * FROM resources WHERE kind != 'image' AND machine_id NOT LIKE 'pool%'"),
      [],
    );
  });

  test("goes back too when the new version's agent never answers", async () => {
    await using worker = await startWorker({ limits: { bootMs: 300 } });
    const { record } = await worker.create();
    await worker.state(record.id, "started");
    worker.silentGuests = true;
    worker.beforeCall = async (call) => {
      // The old version's guest talks again; the first start is the new version's.
      if (call === "kill" && worker.host.running.length === 1) worker.silentGuests = starts === 0;
      if (call === "start") starts += 1;
    };
    let starts = 0;
    await update(worker, record.id, good, true);
    const { record: now } = await back(worker, record.id, "started");
    assertTold(now, next, "guest_unreachable", "guest-ready");
    assert.deepEqual(worker.host.running.length, 1);
  });

  test("fails with both reasons when the version before it cannot start either", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create();
    await worker.state(record.id, "started");
    let starts = 0;
    worker.beforeCall = async (call) => {
      if (call !== "start") return;
      starts += 1;
      throw new HearthError("vmm_start_failed", { message: starts < 3 ? "the new one" : "the old one" });
    };
    await update(worker, record.id, good, true);
    const { record: now } = await back(worker, record.id, "failed");
    assert.equal(now.instance_id, record.instance_id);
    const [failed] = now.events;
    assert.equal(failed?.type, "failed");
    assert.match(failed?.request?.error?.message ?? "", /the old one.*the new one/s);
    assert.deepEqual(worker.host.running, []);
    assert.deepEqual([...worker.slots], []);

    // A later failure of the same version is its own, once it has run again.
    worker.beforeCall = undefined;
    await worker.command("start", { machine_id: record.id });
    await worker.state(record.id, "started");
    await worker.command("stop", { machine_id: record.id });
    await worker.state(record.id, "stopped");
    worker.beforeCall = async (call) => {
      if (call === "start") throw new HearthError("vmm_start_failed", { message: "much later" });
    };
    await worker.command("start", { machine_id: record.id });
    const later = await worker.state(record.id, "failed");
    assert.match(later.events[0]?.request?.error?.message ?? "", /much later/);
    assert.doesNotMatch(later.events[0]?.request?.error?.message ?? "", /the new one/);
  });

  test("is not gone back from when the version before it failed itself", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create(noSuchProgram);
    await worker.state(record.id, "failed");
    await update(worker, record.id, { ...noSuchProgram, env: { A: "b" } }, true);
    const now = await worker.until(
      record.id,
      (fact) => fact.record.instance_id === next && fact.record.state === "failed",
    );
    assert.equal(now.events[0]?.request?.error?.code, "entrypoint_not_found");
  });

  test("is gone back from by the next worker, wherever this one ends", async () => {
    for (const at of ["kill", "start", "image", "second start"]) {
      await using worker = await startWorker();
      const { record } = await worker.create();
      await worker.state(record.id, "started");
      const reached = Promise.withResolvers<void>();
      let starts = 0;
      worker.beforeCall = async (call) => {
        if (call === "start") starts += 1;
        const here = call === at || (at === "second start" && call === "start" && starts === 2);
        if (here) reached.resolve();
      };
      worker.beforeImage = async () => {
        if (at === "image") reached.resolve();
      };
      await update(worker, record.id, noSuchProgram, true);
      await reached.promise;
      await worker.restart();
      const { record: now } = await back(worker, record.id, "started");
      assert.equal(now.instance_id, record.instance_id, at);
      assertTold(now, next, "entrypoint_not_found", "process-start");
      assert.equal(now.events.filter(({ request }) => request?.rolled_back !== undefined).length, 1, at);
      assert.equal(worker.host.running.length, 1, at);
      assert.deepEqual([...worker.imageHolds], [`${record.id}.${record.instance_id}`], at);
    }
  });

  test("keeps room for the larger of its two versions until it has run", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({ guest: { cpus: 1, memory_mb: 1500 } });
    await worker.state(record.id, "started");
    const held = Promise.withResolvers<void>();
    worker.beforeImage = () => held.promise;
    await update(worker, record.id, { ...good, guest: { cpus: 1, memory_mb: 256 } }, true);
    await assert.rejects(worker.create({ guest: { cpus: 1, memory_mb: 1000 } }), is("insufficient_capacity"));
    held.resolve();
    await worker.state(record.id, "started");
    await worker.create({ guest: { cpus: 1, memory_mb: 1000 } }, false);
  });
});

test("a database of before there was a way back gets its column, and keeps its machines", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-old-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, "worker.db");
  openWorkerDatabase(path).close();
  const old = new DatabaseSync(path);
  old.exec("ALTER TABLE machines DROP COLUMN rollback");
  old.close();
  for (let opened = 0; opened < 2; opened += 1) {
    const database = openWorkerDatabase(path);
    const columns = database.prepare("PRAGMA table_info(machines)").all();
    assert.equal(columns.filter(({ name }) => name === "rollback").length, 1);
    database.close();
  }
});
