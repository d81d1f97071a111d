/** What machines may send, from their configuration and their app to their slots, through a real bus. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { FactStore } from "@hearth/cluster";
import { factKeys } from "@hearth/machine";
import { until } from "@hearth/testkit";
import { agentProgram } from "./testing/agent-guest.ts";
import { startWorker, type WorkerFixture } from "./testing/worker-fixture.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";
const limitMs = 20_000;

const told = (worker: WorkerFixture) => [...worker.egress.values()].flat();
const denies = (worker: WorkerFixture, block: string) => told(worker).some((one) => one.includes(block));
const kept = (worker: WorkerFixture): string | null =>
  (worker.rows("SELECT slot_egress FROM machines")[0] as { slot_egress: string | null }).slot_egress;
const eventually = (what: string, holds: () => boolean) =>
  until(what, limitMs, async () => holds() || undefined);

const say = (worker: WorkerFixture, version: number, policy: object) =>
  new FactStore({ bus: worker.bus }).publish(factKeys.app("web"), {
    ...{ id: "a", name: "web", org_slug: "personal", network: 7, created_at_ms: 1 },
    egress: { policy, version },
  });

describe("egress of a worker's machines", { skip, timeout: 60_000 }, () => {
  test("comes with the slot, is kept with the machine, and goes with the slot", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({ network: { denyOut: ["192.0.2.0/24"] } });
    await worker.state(record.id, "started");
    assert.ok(denies(worker, "192.0.2.0-192.0.2.255"));
    assert.equal(kept(worker), '[{"denyOut":["192.0.2.0/24"]}]');
    await worker.command("stop", { machine_id: record.id });
    await worker.state(record.id, "stopped");
    assert.deepEqual(told(worker), []);
    assert.equal(kept(worker), null);
  });

  test("of its app holds at once for a machine that runs, and the newest version counts", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create();
    await worker.state(record.id, "started");
    assert.deepEqual(told(worker), []);
    await say(worker, 5, { denyOut: ["192.0.2.0/24"] });
    await eventually("the app's policy is applied", () => denies(worker, "192.0.2.0"));
    await say(worker, 4, { denyOut: ["198.51.100.0/24"] });
    await say(worker, 6, { denyOut: ["203.0.113.0/24"] });
    await eventually("the newest is applied", () => denies(worker, "203.0.113.0"));
    assert.ok(!denies(worker, "192.0.2.0") && !denies(worker, "198.51.100.0"));
    await say(worker, 7, {});
    await eventually("it is taken back", () => told(worker).length === 0);
    await eventually("and so it is kept", () => kept(worker) === null);
  });

  test("of the machine itself replaces a list of its app", async () => {
    await using worker = await startWorker();
    await say(worker, 1, { denyOut: ["192.0.2.0/24"], allowOut: ["198.51.100.7"] });
    const { record } = await worker.create({ network: { denyOut: ["203.0.113.0/24"] } });
    await worker.state(record.id, "started");
    await eventually(
      "both are applied",
      () => denies(worker, "203.0.113.0") && denies(worker, "198.51.100.7"),
    );
    assert.ok(!denies(worker, "192.0.2.0"));
  });

  test("is changed by the worker after the one that died while it changed it", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create({ network: { denyOut: ["192.0.2.0/24"] } });
    await worker.state(record.id, "started");
    const never = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    worker.beforeExchange = () => {
      asked.resolve();
      return never.promise;
    };
    await say(worker, 1, { allowOut: ["198.51.100.7"] });
    await asked.promise;
    const both = '[{"denyOut":["192.0.2.0/24"]},{"allowOut":["198.51.100.7"],"denyOut":["192.0.2.0/24"]}]';
    assert.equal(kept(worker), both);
    worker.beforeExchange = undefined;
    never.reject(new Error("the host did not take it"));
    await worker.restart();
    await eventually("the change is done", () => denies(worker, "198.51.100.7"));
    await eventually("and settled", () => kept(worker)?.includes("},{") === false);
    assert.ok((await worker.state(record.id, "started")).id);
  });
});
