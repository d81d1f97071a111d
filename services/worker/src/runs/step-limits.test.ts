/** Each wait of a machine's runs, made to hang, and what becomes of the machine and of its host. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { agentProgram } from "../testing/agent-guest.ts";
import { startWorker, type WorkerFixture } from "../testing/worker-fixture.ts";
import { ScratchDisks } from "./scratch-disk.ts";
import { defaultStepLimits } from "./step-limits.ts";

const skip = existsSync(agentProgram) ? false : "the guest agent is not built";
const forever = (): Promise<never> => new Promise(() => undefined);

const nothingHeld = (worker: WorkerFixture) => {
  assert.deepEqual(worker.rows("SELECT kind, key FROM resources WHERE machine_id NOT LIKE 'pool%'"), []);
  assert.deepEqual([...worker.slots], []);
  assert.deepEqual([...worker.imageHolds], []);
  assert.deepEqual(worker.host.running, []);
};

async function failsWith(worker: WorkerFixture, code: string, step: string): Promise<string> {
  const { record } = await worker.create();
  const failed = await worker.state(record.id, "failed");
  const error = failed.events[0]?.request?.error;
  assert.equal(error?.code, code);
  assert.equal(error?.step, step);
  nothingHeld(worker);
  return error?.message ?? "";
}

test("every limit is a time, and what an act may take to stop is shorter than what it may take", () => {
  for (const [name, ms] of Object.entries(defaultStepLimits)) assert.ok(ms > 0, name);
  assert.ok(defaultStepLimits.abandonMs < defaultStepLimits.releaseMs);
});

describe("a wait that does not end", { skip, timeout: 120_000 }, () => {
  test("a guest that never answers fails its machine by name, and nothing is left", async () => {
    await using worker = await startWorker({ limits: { bootMs: 200 } });
    worker.silentGuests = true;
    assert.match(await failsWith(worker, "guest_unreachable", "guest-ready"), /did not answer within 0.2 s/);
  });

  test("a VMM that hangs in its start fails the machine, and what comes up late is ended", async () => {
    await using worker = await startWorker({ limits: { vmmStartMs: 50, abandonMs: 50 } });
    const held = Promise.withResolvers<void>();
    let calls = 0;
    worker.beforeCall = async (call) => {
      if (call !== "start") return;
      calls += 1;
      await held.promise;
    };
    assert.match(await failsWith(worker, "deadline_exceeded", "vmm"), /nor when it was told to stop/);
    assert.equal(calls, 1, "it is not begun beside itself");
    const killed = Promise.withResolvers<void>();
    worker.beforeCall = async (call) => {
      if (call === "kill") killed.resolve();
    };
    held.resolve();
    await killed.promise;
    const limit = Date.now() + 10_000;
    while (worker.host.running.length > 0 && Date.now() < limit)
      await new Promise((resolve) => setImmediate(resolve));
    nothingHeld(worker);
  });

  test("a VMM that hangs when it is ended is ended again until it is gone", async () => {
    await using worker = await startWorker({ limits: { releaseMs: 50, abandonMs: 50 } });
    const { record } = await worker.create();
    await worker.state(record.id, "started");
    let kills = 0;
    worker.beforeCall = async (call) => {
      if (call !== "kill") return;
      kills += 1;
      if (kills === 1) await forever();
    };
    await worker.command("stop", { machine_id: record.id });
    await worker.state(record.id, "stopped");
    assert.equal(kills, 2);
    assert.deepEqual(worker.host.running, []);
    assert.deepEqual([...worker.slots], []);
  });

  test("images that stall end at their limit", async () => {
    await using worker = await startWorker({ limits: { imageMs: 50, abandonMs: 50 } });
    worker.beforeImage = forever;
    await failsWith(worker, "deadline_exceeded", "image");
  });

  for (const [name, request, state] of [
    ["stop", {}, "stopped"],
    ["destroy", { force: true }, "destroyed"],
  ] as const)
    test(`while images stall, ${name} is honoured at once`, async () => {
      await using worker = await startWorker();
      const stalled = Promise.withResolvers<void>();
      worker.beforeImage = (signal) => {
        stalled.resolve();
        return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      };
      const { record } = await worker.create();
      await stalled.promise;
      await worker.command(name, { machine_id: record.id, ...request });
      // Well within the limits of the step and of giving up, or the fixture's own limit ends this.
      await worker.state(record.id, state);
      nothingHeld(worker);
    });
});

describe("a full disk", { skip: process.getuid?.() === 0 ? false : "mounting needs root" }, () => {
  /** A file system of its own, of this size. */
  function smallDisk(t: TestContext, size: string): string {
    const dir = mkdtempSync(join(tmpdir(), "hearth-full-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "hearth-test", dir]);
    t.after(() => {
      execFileSync("umount", [dir]);
      rmSync(dir, { recursive: true });
    });
    return dir;
  }

  const filesIn = (dir: string): string[] =>
    readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => name)
      .sort();

  test("while the first scratch disk is made, it is named and nothing is left", async (t) => {
    const dir = smallDisk(t, "64k");
    const disks = new ScratchDisks(join(dir, "templates"));
    const made = disks.make(join(dir, "machine/scratch.ext4"), 1, new AbortController().signal);
    await assert.rejects(made, { code: "disk_full" });
    assert.deepEqual(filesIn(dir), []);
  });

  test("while a later one is copied, it is named, nothing is left, and it works again with room", async (t) => {
    const dir = smallDisk(t, "4m");
    const disks = new ScratchDisks(join(dir, "templates"));
    const signal = new AbortController().signal;
    const path = join(dir, "machine/scratch.ext4");
    await disks.make(path, 1, signal);
    await disks.remove(path);
    assert.throws(() => writeFileSync(join(dir, "filler"), Buffer.alloc(8 * 2 ** 20)), { code: "ENOSPC" });
    await assert.rejects(disks.make(path, 1, signal), { code: "disk_full" });
    assert.deepEqual(filesIn(dir), ["filler", "scratch-1g-v1.ext4"]);
    rmSync(join(dir, "filler"));
    await disks.make(path, 1, signal);
  });
});
