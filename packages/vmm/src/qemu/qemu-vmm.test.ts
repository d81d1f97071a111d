/** What only the QEMU driver has to do: outlive its parent, order its disks, refuse what cannot work. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { QemuVmm, type VmmHandle, type VmmSpec } from "../../mod.ts";
import { type EchoGuest, makeEchoGuest } from "../testing/echo-guest.ts";
import { readUntil } from "../testing/read-until.ts";
import { isSameProcess } from "./process.ts";

describe("the qemu driver alone", { timeout: 120_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "hearth-qemu-"));
  const started: QemuVmm[] = [];
  let guest: EchoGuest = { kernel: "", initrd: "" };
  let skip: string | false = false;

  before(() => {
    const made = makeEchoGuest(directory);
    if (typeof made === "string") skip = made;
    else guest = made;
  });
  after(async () => {
    for (const vmm of started) await vmm.kill();
    rmSync(directory, { recursive: true, force: true });
  });

  const make = (binary?: string): QemuVmm => {
    const vmm = new QemuVmm(binary === undefined ? {} : { binary });
    started.push(vmm);
    return vmm;
  };
  const spec = (id: string): VmmSpec => ({
    ...{ id, runDir: join(directory, id), consolePath: join(directory, `${id}.console`), ...guest },
    ...{ cmdline: "", cpus: 1, memoryMib: 192, disks: [], nics: [] },
  });
  const behaviour = (sentence: string, body: () => Promise<void>) =>
    it(sentence, async (context) => (skip === false ? await body() : context.skip(skip)));

  behaviour("keeps a VM running when the process that started it is killed", async () => {
    const starter = join(directory, "starter.ts");
    const door = join(import.meta.dirname, "../../mod.ts");
    writeFileSync(
      starter,
      `import { writeFileSync } from "node:fs";
       import { QemuVmm } from ${JSON.stringify(door)};
       const handle = await new QemuVmm().start(${JSON.stringify(spec("orphan"))});
       writeFileSync(${JSON.stringify(join(directory, "handle.json"))}, JSON.stringify(handle));
       process.kill(process.pid, "SIGKILL");`,
    );
    await assert.rejects(promisify(execFile)(process.execPath, [starter]), { signal: "SIGKILL" });
    const handle = JSON.parse(readFileSync(join(directory, "handle.json"), "utf8")) as VmmHandle;
    const vmm = make();
    await vmm.adopt(handle);
    const channel = await vmm.channel();
    await readUntil(channel, "ready\n");
    const exit = new Promise((resolve) => vmm.onExit(resolve));
    channel.write("poweroff\n");
    assert.deepEqual(await exit, { reason: "guest", code: null, signal: null });
  });

  behaviour(
    "gives up on a QEMU that has stopped, in a snapshot and in a take-over, and can end it",
    async () => {
      const vmm = new QemuVmm({ commandLimitMs: 300 });
      started.push(vmm);
      const handle = await vmm.start(spec("stalled"));
      process.kill(handle.pid, "SIGSTOP");
      const dir = join(directory, "stalled-snapshot");
      await assert.rejects(vmm.snapshot(dir), { code: "deadline_exceeded" });
      assert.equal(existsSync(join(dir, "snapshot.json")), false, "what is not whole is no snapshot");
      await vmm[Symbol.asyncDispose]();
      const next = new QemuVmm({ commandLimitMs: 300 });
      await assert.rejects(next.adopt(handle));
      await vmm.kill();
      assert.equal(isSameProcess(handle.pid, handle.startTime), false);
    },
  );

  behaviour("shows disks in the order of the spec and keeps a read-only one read-only", async () => {
    const disks = [1, 2, 3].map((mib) => {
      const path = join(directory, `disk${mib}, with a comma`);
      writeFileSync(path, "");
      truncateSync(path, mib * 2 ** 20);
      return { path, readOnly: mib === 1 };
    });
    const vmm = make();
    await vmm.start({ ...spec("disks"), disks });
    const channel = await vmm.channel();
    await readUntil(channel, "ready\n");
    channel.write("disks\n");
    const seen = await readUntil(channel, "disks end\n");
    assert.match(seen, /vda 2048 ro=1 disk0\nvdb 4096 ro=0 disk1\nvdc 6144 ro=0 disk2\n/);
  });

  behaviour(
    "says vmm_start_failed when QEMU is missing, refuses its arguments or has no room for a socket",
    async () => {
      await assert.rejects(make("/nonexistent/qemu").start(spec("absent")), { code: "vmm_start_failed" });
      const disks = [{ path: join(directory, "no such disk"), readOnly: true }];
      await assert.rejects(make().start({ ...spec("diskless"), disks }), { code: "vmm_start_failed" });
      const runDir = join(directory, "x".repeat(120));
      await assert.rejects(make().start({ ...spec("long"), runDir }), { code: "vmm_start_failed" });
    },
  );
});
