/** Why a machine failed, told by its worker. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { Duplex } from "node:stream";
import { describe, test } from "node:test";
import { HearthError } from "@hearth/errors";
import type { MachineExplanation } from "@hearth/machine";
import { SimHost, SimVmm, type VmmHandle, type VmmSpec } from "@hearth/vmm";
import { agentProgram } from "../testing/agent-guest.ts";
import { startWorker, type WorkerFixture } from "../testing/worker-fixture.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";

const explain = async (worker: WorkerFixture, machine_id: string, limit = 10) =>
  (await worker.command("explain", { machine_id, limit })) as MachineExplanation;

/** It boots, says something on its console, and its agent never answers. */
class MuteVmm extends SimVmm {
  override async start(spec: VmmSpec): Promise<VmmHandle> {
    await writeFile(spec.consolePath, "\x1b[31mmount: no such disk\x1b[0m\r\nKernel panic\x07");
    return await super.start(spec);
  }
  override async channel(): Promise<Duplex> {
    return new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
  }
}

describe("explaining a machine", { skip, timeout: 60_000 }, () => {
  test("a start is told step by step, and the newest run first", async () => {
    await using worker = await startWorker();
    const { record } = await worker.create();
    await worker.state(record.id, "started");
    await worker.command("stop", { machine_id: record.id });
    await worker.state(record.id, "stopped");
    const told = await explain(worker, record.id);
    assert.deepEqual([told.machine_id, told.state], [record.id, "stopped"]);
    assert.deepEqual(
      told.runs.map(({ kind, state, error }) => [kind, state, error]),
      [
        ["machine-down", "done", null],
        ["machine-start", "done", null],
      ],
    );
    const start = told.runs[1];
    assert.deepEqual(
      start?.steps.map(({ name, state, attempts }) => `${name} ${state} ${attempts}`).slice(-3),
      ["vmm done 1", "guest-ready done 1", "process-start done 1"],
    );
    assert.equal(start?.steps.length, 6);
    for (const { begun_at, ended_at, duration_ms, reason } of start?.steps ?? []) {
      assert.equal(Date.parse(ended_at ?? "") - Date.parse(begun_at), duration_ms);
      assert.equal(reason, null);
    }
    assert.ok((start?.duration_ms ?? 0) >= Math.max(...(start?.steps ?? []).map((step) => step.duration_ms)));
    assert.equal((await explain(worker, record.id, 1)).runs.length, 1);
    await assert.rejects(explain(worker, "00000000000000"), /no such machine/);
  });

  test("a failure has its step, its cause, its attempts, and no console of a VM that was never started", async () => {
    await using worker = await startWorker();
    worker.refuseImages = new HearthError("registry_unavailable", { cause: new Error("10.0.0.9 refused") });
    const { record } = await worker.create();
    const failed = await worker.state(record.id, "failed");
    const error = failed.events[0]?.request?.error;
    const { message, ...rest } = error ?? { message: "" };
    assert.deepEqual(rest, { code: "registry_unavailable", step: "image", attempts: 3, console_tail: "" });
    assert.match(message, /registry does not answer/);
    const [run] = (await explain(worker, record.id)).runs;
    assert.deepEqual(run?.error, error);
    const image = run?.steps.find(({ name }) => name === "image");
    assert.deepEqual([image?.state, image?.attempts], ["failed", 3]);
    assert.ok((image?.duration_ms ?? 0) >= 200, "two pauses between three attempts");
    const others = run?.steps.filter(({ name }) => name !== "image").map(({ state }) => state);
    assert.deepEqual(others, ["undone", "undone"]);
    assert.equal(JSON.stringify([failed, run]).includes("10.0.0.9"), false, "the cause stays in the log");
  });

  test("a guest that does not answer is told with the end of its console, which outlives the next start", async () => {
    const host = new SimHost({
      guest: () => ({ receive: () => undefined, powerButton: () => undefined, save: () => null }),
      now: () => performance.now(),
    });
    await using worker = await startWorker({
      makeVmm: () => new MuteVmm(host),
      limits: { bootMs: 200, destroyedFactMs: 60_000, destroyedRowMs: 60_000, nodeFactEveryMs: 3_000 },
    });
    const { record } = await worker.create();
    const failed = await worker.state(record.id, "failed");
    const error = failed.events[0]?.request?.error;
    assert.deepEqual([error?.code, error?.step], ["guest_unreachable", "guest-ready"]);
    assert.equal(error?.console_tail, "mount: no such disk\nKernel panic");
    assert.doesNotMatch(error?.message ?? "", /panic/, "the console is a field of its own");
    worker.refuseImages = new HearthError("image_not_found");
    await worker.command("update", {
      ...{ machine_id: record.id, instance_id: "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", launch: true },
      config: { image: "local/box:2" },
    });
    await worker.until(
      record.id,
      ({ record: now }) => now.events[0]?.request?.error?.code === "image_not_found",
    );
    const starts = (await explain(worker, record.id)).runs.filter(({ kind }) => kind === "machine-start");
    assert.deepEqual(
      starts.map(({ error: why }) => [why?.code, why?.console_tail]),
      [
        ["image_not_found", ""],
        ["guest_unreachable", "mount: no such disk\nKernel panic"],
      ],
    );
    await worker.restart();
    assert.equal((await explain(worker, record.id)).runs.length, 3, "it is on the disk");
  });
});
