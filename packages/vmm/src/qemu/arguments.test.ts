import assert from "node:assert/strict";
import { it } from "node:test";
import type { VmmSpec } from "../port.ts";
import { kernelCommandLine, qemuArguments } from "./arguments.ts";
import { hostTscKhz } from "./tsc.ts";

const spec: VmmSpec = {
  ...{
    id: "m1",
    runDir: "/run/m1",
    kernel: "/k",
    initrd: "/i",
    cmdline: "hearth.x=1",
    cpus: 2,
    memoryMib: 256,
  },
  ...{ disks: [{ path: "/d,1", readOnly: true }], nics: [{ tap: "tap0", mac: "02:00:00:00:00:01" }] },
  consolePath: "/c",
};
const build = (accelerator: "kvm" | "tcg", tscKhz: number | null) =>
  qemuArguments({
    ...{ spec, accelerator, tscKhz, memory: { kind: "memfd" }, incoming: false },
    ...{ qmpSocket: "/run/m1/qmp.sock", agentSocket: "/run/m1/agent.sock" },
  });

it("puts the caller's words last on the kernel command line and leaves out a rate that nobody knows", () => {
  assert.equal(
    kernelCommandLine(spec, 2_000_000),
    "console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz=2000000 tsc=reliable hearth.x=1",
  );
  assert.equal(kernelCommandLine({ ...spec, cmdline: "" }, null), "console=ttyS0 quiet panic=-1 reboot=t");
});

it("doubles commas in values, confines QEMU and gives each device its own bus, the first the highest", () => {
  const line = build("tcg", 1).join(" ");
  assert.match(line, /file=\/d,,1/);
  assert.match(line, /-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny/);
  assert.deepEqual(line.match(/virtio-mmio-bus\.\d+/g), [
    "virtio-mmio-bus.3",
    "virtio-mmio-bus.2",
    "virtio-mmio-bus.1",
  ]);
});

it("reads the rate that the kernel publishes, else that of the first processor, else none", () => {
  const files = (list: Record<string, string>) => (path: string) => {
    const text = list[path];
    if (text === undefined) throw new Error("ENOENT");
    return text;
  };
  const published = { "/sys/devices/system/cpu/cpu0/tsc_freq_khz": "2600000\n" };
  const clock = { "/proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 2596.146\n" };
  assert.equal(hostTscKhz(files({ ...published, ...clock })), 2_600_000);
  assert.equal(hostTscKhz(files(clock)), 2_596_146);
  assert.equal(hostTscKhz(files({})), null);
});
