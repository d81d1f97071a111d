/**
 * What every driver must do, run against each that this host can run.
 *
 * The real guest is the smallest there is: the platform's kernel and an initrd whose /init is a busybox shell
 * that greets on the agent's port and then returns each line. It needs no guest agent, so a failure here is
 * the driver's.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { after, before, describe, it } from "node:test";
import type { Vmm, VmmExit, VmmSpec } from "../mod.ts";
import { QemuVmm, SimHost, SimVmm } from "../mod.ts";
import { type EchoGuest, makeEchoGuest } from "./testing/echo-guest.ts";
import { readUntil } from "./testing/read-until.ts";
import { simEchoGuest } from "./testing/sim-echo-guest.ts";

const limitMs = 30_000;

const exitOf = (vmm: Vmm): Promise<VmmExit> => new Promise((resolve) => vmm.onExit(resolve));

const simHost = new SimHost({ guest: simEchoGuest, now: () => performance.now() });
const drivers: { name: string; make(): Vmm; needsGuest: boolean }[] = [
  { name: "qemu", make: () => new QemuVmm(), needsGuest: true },
  { name: "sim", make: () => new SimVmm(simHost), needsGuest: false },
];

for (const driver of drivers) {
  describe(`the ${driver.name} driver`, { timeout: 5 * limitMs }, () => {
    const directory = mkdtempSync(join(tmpdir(), "hearth-vmm-"));
    const started: Vmm[] = [];
    let guest: EchoGuest = { kernel: "", initrd: "" };
    let skip: string | false = false;
    let count = 0;

    before(() => {
      if (!driver.needsGuest) return;
      const made = makeEchoGuest(directory);
      if (typeof made === "string") skip = made;
      else guest = made;
    });
    after(async () => {
      for (const vmm of started) await vmm.kill();
      rmSync(directory, { recursive: true, force: true });
    });

    const make = (): Vmm => {
      const vmm = driver.make();
      started.push(vmm);
      return vmm;
    };
    const spec = (): VmmSpec => {
      const runDir = join(directory, `m${++count}`);
      const consolePath = join(directory, `m${count}.console`);
      return {
        id: `m${count}`,
        runDir,
        ...guest,
        cmdline: "",
        cpus: 1,
        memoryMib: 192,
        disks: [],
        nics: [],
        consolePath,
      };
    };
    const behaviour = (sentence: string, body: () => Promise<void>) =>
      it(sentence, async (context) => (skip === false ? await body() : context.skip(skip)));

    behaviour("boots a guest, carries bytes both ways, and ends it when told", async () => {
      const vmm = make();
      const handle = await vmm.start(spec());
      assert.deepEqual(JSON.parse(JSON.stringify(handle)), handle, "the handle survives being written down");
      assert.deepEqual(await vmm.start(handle.spec), handle, "starting what runs changes nothing");
      const channel = await vmm.channel();
      await readUntil(channel, "ready\n");
      channel.write("hello\n");
      await readUntil(channel, "echo hello\n");
      const stats = await vmm.stats();
      assert.ok(stats.cpuTimeMs > 0 && stats.residentBytes > 0);
      const exit = exitOf(vmm);
      await vmm.kill();
      assert.equal((await exit).reason, "requested");
      await vmm.kill();
      await assert.rejects(vmm.channel(), { code: "vmm_not_running" });
      await assert.rejects(vmm.pause(), { code: "vmm_not_running" });
    });

    behaviour("stops and goes on where it was", async () => {
      const vmm = make();
      await vmm.start(spec());
      const channel = await vmm.channel();
      await readUntil(channel, "ready\n");
      await vmm.pause();
      await vmm.pause();
      channel.write("later\n");
      const quiet = (await vmm.stats()).cpuTimeMs;
      await vmm.resume();
      await vmm.resume();
      await readUntil(channel, "echo later\n");
      assert.ok((await vmm.stats()).cpuTimeMs >= quiet);
      await vmm.kill();
    });

    behaviour("is found again by its handle alone", async () => {
      const first = make();
      const handle = await first.start(spec());
      await readUntil(await first.channel(), "ready\n");
      await first[Symbol.asyncDispose]();
      const second = make();
      await second.adopt(JSON.parse(JSON.stringify(handle)));
      await second.adopt(handle);
      const channel = await second.channel();
      channel.write("again\n");
      await readUntil(channel, "echo again\n");
      const exit = exitOf(second);
      await second.kill();
      assert.equal((await exit).reason, "requested");
      await assert.rejects(make().adopt(handle), { code: "vmm_not_running" });
      await assert.rejects(make().adopt({ ...handle, pid: process.pid }), { code: "vmm_not_running" });
    });

    behaviour("tells a guest that switched itself off from one that panicked", async () => {
      for (const [line, reason] of [
        ["poweroff", "guest"],
        ["panic", "panic"],
      ] as const) {
        const vmm = make();
        await vmm.start(spec());
        const exit = exitOf(vmm);
        const channel = await vmm.channel();
        await readUntil(channel, "ready\n");
        channel.write(`${line}\n`);
        assert.equal((await exit).reason, reason);
      }
    });

    behaviour("ends a guest that does not react to the power button", async () => {
      const vmm = make();
      await vmm.start(spec());
      await readUntil(await vmm.channel(), "ready\n");
      const exit = exitOf(vmm);
      await vmm.stop(50);
      assert.equal((await exit).reason, "requested");
      await vmm.stop(50);
    });

    behaviour("goes on as two copies of a snapshot, and the copies are copies themselves", async () => {
      const source = make();
      await source.start(spec());
      const channel = await source.channel();
      await readUntil(channel, "ready\n");
      channel.write("set source\n");
      await readUntil(channel, "echo set source\n");
      const dir = join(directory, `s${++count}`);
      await source.snapshot(dir);
      for (const name of readdirSync(dir)) {
        assert.equal(statSync(join(dir, name)).mode & 0o077, 0, `${name} is closed to others`);
      }
      await source.resume();
      channel.write("get\n");
      await readUntil(channel, "value source\n");

      const clones: Duplex[] = [];
      for (const name of ["left", "right"]) {
        const clone = make();
        const { id, runDir, consolePath } = spec();
        await clone.restore(dir, { id, runDir, consolePath });
        const port = await clone.channel();
        clones.push(port);
        port.write("get\n");
        await readUntil(port, "value source\n");
        port.write(`set ${name}\n`);
        await readUntil(port, `echo set ${name}\n`);
        if (name === "left") continue;
        const second = join(directory, `s${++count}`);
        await clone.snapshot(second);
        const grandchild = make();
        const next = spec();
        await grandchild.restore(second, { id: next.id, runDir: next.runDir, consolePath: next.consolePath });
        const itsPort = await grandchild.channel();
        itsPort.write("get\n");
        await readUntil(itsPort, "value right\n");
        await clone.resume();
      }
      for (const [index, name] of ["left", "right"].entries()) {
        clones[index]?.write("get\n");
        await readUntil(clones[index] as Duplex, `value ${name}\n`);
      }
    });

    behaviour("refuses a directory that holds no whole snapshot", async () => {
      const { id, runDir, consolePath } = spec();
      await assert.rejects(make().restore(directory, { id, runDir, consolePath }), {
        code: "vmm_snapshot_invalid",
      });
    });
  });
}
