/** How the ends of programs are told, with the real guest agent. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import type { ExitEvent, MachineRecord } from "@hearth/machine";
import { agentProgram } from "./testing/agent-guest.ts";
import { startWorker, type WorkerFixture } from "./testing/worker-fixture.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";
const sh = (script: string) => ({ init: { exec: ["/bin/sh", "-c", script] } });
const exits = ({ events }: MachineRecord): ExitEvent[] =>
  events.flatMap(({ request }) => (request?.exit_event === undefined ? [] : [request.exit_event]));

async function endOf(worker: WorkerFixture, script: string): Promise<ExitEvent | undefined> {
  const { record } = await worker.create({ ...sh(script), restart: { policy: "no" } });
  return exits(await worker.state(record.id, "stopped"))[0];
}

describe("the end of a program", { skip, timeout: 60_000 }, () => {
  test("by a signal is not one by an exit code, and neither is for want of memory", async () => {
    await using worker = await startWorker();
    const killed = await endOf(worker, "kill -9 $$");
    assert.deepEqual([killed?.exit_code, killed?.guest_signal, killed?.oom_killed], [137, 9, false]);
    const hungUp = await endOf(worker, "kill -HUP $$");
    assert.deepEqual([hungUp?.exit_code, hungUp?.guest_signal, hungUp?.oom_killed], [129, 1, false]);
    const code = await endOf(worker, "exit 137");
    assert.deepEqual([code?.exit_code, code?.guest_signal, code?.oom_killed], [137, -1, false]);
    for (const event of [killed, hungUp, code]) assert.equal(event?.requested_stop, false);
  });

  test("that somebody asked for says so, also when the program is started again", async () => {
    await using worker = await startWorker();
    const { id } = (await worker.create(sh("trap 'exit 4' TERM; while :; do sleep 0.05; done"))).record;
    await worker.state(id, "started");
    await worker.command("restart", { machine_id: id });
    const again = await worker.until(
      id,
      ({ record }) => record.state === "started" && exits(record).length === 1,
    );
    const told = (event: ExitEvent | undefined) => [event?.requested_stop, event?.restarting];
    assert.deepEqual(told(exits(again)[0]), [true, true]);
    await worker.command("stop", { machine_id: id });
    assert.deepEqual(told(exits(await worker.state(id, "stopped"))[0]), [true, false]);
  });

  test("by a restart of its host was not asked for, and is no crash that counts", async () => {
    await using worker = await startWorker();
    const { id } = (await worker.create({ restart: { policy: "no" } })).record;
    await worker.state(id, "started");
    const [handle] = worker.host.running;
    await worker.restart({ bootId: "boot-2" }, () => handle && worker.host.crash(handle));
    const again = await worker.until(
      id,
      ({ record }) => record.state === "started" && exits(record).length > 0,
    );
    const [exit] = exits(again);
    assert.deepEqual([exit?.requested_stop, exit?.restarting], [false, true]);
    assert.match(exit?.error ?? "", /host restarted/);
    const [row] = worker.rows("SELECT restarts FROM machines") as { restarts: string }[];
    assert.equal(row?.restarts, "[]");
  });
});
