/** Scheduled machines under a worker, whose clock the test puts ahead. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { agentProgram } from "./testing/agent-guest.ts";
import { AheadClock } from "./testing/ahead-clock.ts";
import { startWorker, type WorkerFixture } from "./testing/worker-fixture.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";
const hour = 3_600_000;
const sh = (script: string) => ({ init: { exec: ["/bin/sh", "-c", script] } });
const once = (worker: WorkerFixture) => ({ ...sh(`echo . >> ${tally(worker)}`), schedule: "hourly" });
const tally = (worker: WorkerFixture) => `${worker.config.data_dir}/tally`;
const runs = (worker: WorkerFixture) => readFileSync(tally(worker), "utf8").split(".").length - 1;

interface Row {
  readonly state: string;
  readonly turn: { readonly schedule: string; readonly dueMs: number } | null;
}

function row(worker: WorkerFixture, id: string): Row {
  const [found] = worker.rows(`SELECT state, turn FROM machines WHERE machine_id = '${id}'`) as {
    readonly state: string;
    readonly turn: string | null;
  }[];
  return { state: found?.state ?? "", turn: found?.turn ? JSON.parse(found.turn) : null };
}

const exits = (worker: WorkerFixture, id: string, count: number) =>
  worker.until(
    id,
    ({ record }) =>
      record.state === "stopped" && record.events.filter(({ type }) => type === "exit").length === count,
  );

async function holds(condition: () => boolean): Promise<void> {
  for (const limit = Date.now() + 20_000; !condition(); await delay(5))
    assert.ok(Date.now() < limit, "not in time");
}

describe("a scheduled machine", { skip, timeout: 60_000 }, () => {
  test("runs when it is made and once each period, and rests in between", async () => {
    const clock = new AheadClock();
    await using worker = await startWorker({ clock });
    const { record } = await worker.create(once(worker));
    const { id } = record;
    await exits(worker, id, 1);
    await holds(() => row(worker, id).turn !== null);
    const created = Date.parse(record.created_at);
    assert.deepEqual(row(worker, id).turn, { schedule: "hourly", dueMs: created + hour });
    clock.advance(hour);
    const again = await exits(worker, id, 2);
    const start = again.events.find(({ type, status }) => type === "start" && status === "starting");
    assert.equal(start?.source, "flyd");
    assert.equal(row(worker, id).turn?.dueMs, created + 2 * hour);
    clock.advance(hour);
    await exits(worker, id, 3);
    assert.equal(runs(worker), 3);
  });

  test("makes up for turns that its worker was away for, once", async () => {
    const clock = new AheadClock();
    await using worker = await startWorker({ clock });
    const { id } = (await worker.create(once(worker))).record;
    await exits(worker, id, 1);
    await holds(() => row(worker, id).turn !== null);
    const planned = row(worker, id).turn;
    await worker.restart();
    assert.deepEqual(row(worker, id).turn, planned, "the next turn outlives the worker");
    await worker.restart({}, () => clock.advance(5 * hour + hour / 2));
    await exits(worker, id, 2);
    assert.equal(row(worker, id).turn?.dueMs, (planned?.dueMs ?? 0) + 5 * hour);
    await worker.restart();
    clock.advance(hour / 2);
    await exits(worker, id, 3);
    assert.equal(runs(worker), 3);
  });

  test("that runs when its turn is due skips it, and runs at the next one after somebody stopped it", async () => {
    const clock = new AheadClock();
    await using worker = await startWorker({ clock });
    const { record } = await worker.create({ schedule: "hourly" });
    const { id } = record;
    const created = Date.parse(record.created_at);
    const started = await worker.state(id, "started");
    await holds(() => row(worker, id).turn?.dueMs === created + hour);
    clock.advance(hour);
    await holds(() => row(worker, id).turn?.dueMs === created + 2 * hour);
    await worker.command("stop", { machine_id: id });
    const stopped = await worker.state(id, "stopped");
    const starts = stopped.events.filter(({ type }) => type === "start").length;
    assert.equal(starts, started.events.filter(({ type }) => type === "start").length, "it was left alone");
    clock.advance(hour);
    await worker.state(id, "started");
    await worker.command("destroy", { machine_id: id, force: true });
    await worker.state(id, "destroyed");
  });

  test("that was never launched has its turns too, until its schedule is taken away", async () => {
    const clock = new AheadClock();
    await using worker = await startWorker({ clock });
    const { id } = (await worker.create(once(worker), false)).record;
    await holds(() => row(worker, id).turn !== null);
    clock.advance(hour);
    await exits(worker, id, 1);
    const config = { image: "local/box:1" };
    const instance_id = "01JD0000000000000000000000";
    await worker.command("update", { machine_id: id, instance_id, config, launch: false });
    await holds(() => row(worker, id).turn === null);
    assert.equal(row(worker, id).state, "stopped");
  });

  test("looks at the host's clock now and then, however far away its turn is", async () => {
    const clock = new AheadClock();
    await using worker = await startWorker({ clock });
    const { id } = (await worker.create({ schedule: "monthly" }, false)).record;
    await clock.asleep(300_000);
    assert.equal(row(worker, id).turn?.schedule, "monthly");
    assert.ok(clock.sleeps.every((ms) => ms <= 300_000));
  });

  test("waits for room on its node", async () => {
    const clock = new AheadClock();
    await using worker = await startWorker({ clock });
    const guest = { cpus: 1, memory_mb: 1500 };
    const { id } = (await worker.create({ ...once(worker), guest }, false)).record;
    const other = (await worker.create({ guest })).record;
    await worker.state(other.id, "started");
    await holds(() => row(worker, id).turn !== null);
    clock.advance(hour);
    await holds(() => worker.log.some((line) => line.includes("no room for the machine's turn")));
    await worker.command("destroy", { machine_id: other.id, force: true });
    await worker.state(other.id, "destroyed");
    assert.equal(row(worker, id).state, "created");
    clock.advance(60_000);
    await exits(worker, id, 1);
    assert.equal(runs(worker), 1);
  });

  test("whose program fails is started again as its policy says, and no further", async () => {
    const clock = new AheadClock();
    await using worker = await startWorker({ clock });
    const restart = { policy: "on-failure", max_retries: 1 };
    const failing = { ...sh(`echo . >> ${tally(worker)}; exit 1`), schedule: "daily", restart };
    const { id } = (await worker.create(failing)).record;
    await exits(worker, id, 2);
    clock.advance(24 * hour);
    await exits(worker, id, 4);
    assert.equal(runs(worker), 4);
  });
});
