/** Reservations by a clock that the test moves, and by a worker that is asked what no API would ask. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import {
  type MachineAnswer,
  type NodeFact,
  newInstanceId,
  newMachineId,
  type ReserveAnswer,
} from "@hearth/machine";
import { openJournal } from "../journal/journal.ts";
import { agentProgram } from "../testing/agent-guest.ts";
import { startWorker, testImage, type WorkerFixture } from "../testing/worker-fixture.ts";
import { makeMachineTables } from "./machine-tables.ts";
import { Reservations } from "./reservations.ts";

const is = (code: string) => (error: unknown) => error instanceof HearthError && error.code === code;
const shape = { cpus: 1, memory_mb: 256 };

function withClock() {
  let nowMs = 1_000_000_000;
  const database = openJournal(":memory:");
  makeMachineTables(database);
  const reservations = new Reservations(database, () => nowMs);
  const pass = (ms: number): void => {
    nowMs += ms;
  };
  return { reservations, pass };
}

test("fences grow and are never given twice, also when a reservation takes another's place", () => {
  const { reservations } = withClock();
  const first = reservations.hold("a", shape, 1_000);
  const second = reservations.hold("a", shape, 1_000);
  assert.ok(second > first);
  assert.throws(() => reservations.use("a", first), is("reservation_not_held"));
  reservations.use("a", second);
  assert.throws(() => reservations.use("a", second), is("reservation_not_held"), "a replay");
  assert.ok(reservations.hold("a", shape, 1_000) > second);
});

test("room is held until the deadline, and a commit after it is told that it came too late", () => {
  const { reservations, pass } = withClock();
  const fence = reservations.hold("a", shape, 1_000);
  pass(999);
  assert.equal(reservations.held().length, 1);
  pass(1);
  assert.deepEqual(reservations.held(), []);
  assert.throws(() => reservations.use("a", fence), is("reservation_expired"));
  pass(60_000);
  assert.deepEqual(reservations.held(), []);
  assert.throws(() => reservations.use("a", fence), is("reservation_not_held"), "forgotten by now");
});

test("a clock that is set back an hour does not hold room for an hour", () => {
  const { reservations, pass } = withClock();
  const fence = reservations.hold("a", shape, 60_000);
  pass(-3_600_000);
  assert.throws(() => reservations.use("a", fence), is("reservation_expired"));
  assert.deepEqual(reservations.held(), []);
});

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";

async function reserve(worker: WorkerFixture, machine_id: string, ttl_ms = 60_000): Promise<number> {
  const answer = await worker.command("reserve", { machine_id, guest: shape, ttl_ms });
  return (answer as ReserveAnswer).fence;
}
const commitOf = (machine_id: string, fence: number) => ({
  ...{ machine_id, fence, app: "web", name: "one", region: "local", network: 7, launch: false },
  ...{
    instance_id: newInstanceId(randomBytes, () => Date.now()),
    config: { image: testImage, guest: shape },
  },
});

describe("a worker", { skip, timeout: 60_000 }, () => {
  test("makes a machine of the reservation whose fence it is shown, and of no other", async () => {
    await using worker = await startWorker();
    const id = newMachineId(randomBytes);
    await assert.rejects(worker.command("commit", commitOf(id, 1)), is("reservation_not_held"));
    const fence = await reserve(worker, id);
    await assert.rejects(worker.command("commit", commitOf(id, fence + 1)), is("reservation_not_held"));
    const other = newMachineId(randomBytes);
    await assert.rejects(worker.command("commit", commitOf(other, fence)), is("reservation_not_held"));
    const commit = commitOf(id, fence);
    const made = (await worker.command("commit", commit)) as MachineAnswer;
    const again = (await worker.command("commit", commit)) as MachineAnswer;
    assert.equal(again.record.instance_id, made.record.instance_id, "the same commit, repeated");
    await assert.rejects(reserve(worker, id), is("conflict"));
    assert.deepEqual(worker.rows("SELECT * FROM reservations"), []);
  });

  test("refuses the replay of a commit whose machine is gone", async () => {
    await using worker = await startWorker({ limits: { destroyedFactMs: 1, destroyedRowMs: 1 } as never });
    const id = newMachineId(randomBytes);
    const commit = commitOf(id, await reserve(worker, id));
    await worker.command("commit", commit);
    await worker.command("destroy", { machine_id: id });
    for (const limit = Date.now() + 20_000; worker.rows("SELECT 1 FROM machines").length > 0; await delay(5))
      assert.ok(Date.now() < limit, "the row of the destroyed machine stays");
    await assert.rejects(worker.command("commit", commit), is("reservation_not_held"));
    assert.deepEqual(worker.rows("SELECT * FROM machines"), []);
  });

  test("keeps its fences over a restart, and tells what is reserved apart from what is free", async () => {
    await using worker = await startWorker({ limits: { nodeFactEveryMs: 20 } as never });
    const first = await reserve(worker, newMachineId(randomBytes));
    await worker.restart();
    assert.ok((await reserve(worker, newMachineId(randomBytes))) > first);
    const key = `node.${worker.config.node_id}`;
    const wanted = { free_memory_mb: 1536, reserved_memory_mb: 512, reserved_cpus: 2, hot_slots: 0 };
    for (const limit = Date.now() + 20_000; ; await delay(5)) {
      const fact = worker.replica.get(key)?.value as typeof wanted | undefined;
      const { free_memory_mb, reserved_memory_mb, reserved_cpus, hot_slots } = fact ?? wanted;
      const told = { free_memory_mb, reserved_memory_mb, reserved_cpus, hot_slots };
      if (fact !== undefined && told.reserved_memory_mb === 512) {
        assert.deepEqual(told, wanted);
        return;
      }
      assert.ok(Date.now() < limit, JSON.stringify(told));
    }
  });

  test("keeps how a machine came to it, says which images it has, and what the node's config says of it", async () => {
    await using worker = await startWorker({ limits: { nodeFactEveryMs: 20 } as never });
    const config = { ...worker.config, labels: { disk: "nvme" }, cpu_overcommit: 3 };
    await worker.restart({ config });
    const id = newMachineId(randomBytes);
    const placement = {
      ...{ node_id: worker.config.node_id, nodes: 2, passed_over: { memory: 1 } },
      considered: [{ node_id: "n9", code: "memory", reason: "has 3 MB free" }],
    };
    const fence = await reserve(worker, id);
    await worker.command("commit", { ...commitOf(id, fence), launch: true, placement });
    const told = (await worker.command("explain", { machine_id: id })) as { placement?: unknown };
    assert.deepEqual(told.placement, placement);
    await worker.state(id, "started");
    const key = `node.${worker.config.node_id}`;
    for (const limit = Date.now() + 20_000; ; await delay(5)) {
      const fact = worker.replica.get(key)?.value as NodeFact | undefined;
      if (fact?.images?.length === 1) {
        assert.deepEqual(fact.images, [testImage]);
        assert.deepEqual(
          [fact.labels, fact.cpu_overcommit, fact.free_cpus],
          [{ disk: "nvme" }, 3, 2 * 3 - 1],
        );
        return;
      }
      assert.ok(Date.now() < limit, JSON.stringify(fact));
    }
  });

  test("makes no machine that asks to be alone beside another of its app", async () => {
    await using worker = await startWorker();
    const commit = async (anti_affinity: boolean, app = "web") => {
      const id = newMachineId(randomBytes);
      const { config, ...rest } = commitOf(id, await reserve(worker, id));
      return worker.command("commit", { ...rest, app, config: { ...config, placement: { anti_affinity } } });
    };
    await commit(true);
    await assert.rejects(commit(true), is("insufficient_capacity"));
    await commit(true, "other");
    await commit(false);
    assert.equal(worker.rows("SELECT * FROM machines").length, 3);
  });
});
