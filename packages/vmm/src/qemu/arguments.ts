/**
 * The QEMU command line of a VM: a pure function, so that what a guest gets can be read in one place and
 * compared in a test.
 */
import type { VmmSpec } from "../port.ts";

export type Accelerator = "kvm" | "tcg";

export type QemuMemory =
  /** Anonymous and shared: a snapshot can leave the RAM out of the device state and copy it by itself. */
  | { readonly kind: "memfd" }
  /** A snapshot's RAM, mapped privately: pages are read when touched and written only in this VM. */
  | { readonly kind: "clone"; readonly path: string };

export interface QemuArguments {
  readonly spec: VmmSpec;
  readonly accelerator: Accelerator;
  readonly memory: QemuMemory;
  readonly qmpSocket: string;
  readonly agentSocket: string;
  /** The host's time stamp counter; null when it is not known or not needed. */
  readonly tscKhz: number | null;
  /** Wait for a device state instead of booting. */
  readonly incoming: boolean;
}

/** QEMU separates options by commas; a comma inside a value is written twice. */
const escaped = (value: string): string => value.replaceAll(",", ",,");

export function kernelCommandLine(spec: VmmSpec, tscKhz: number | null): string {
  // quiet: each byte on an emulated serial port costs an exit. panic and reboot: a dead kernel ends the VM
  // instead of spinning. tsc_early_khz: under TCG the calibration that it replaces hangs in three boots of ten.
  // tsc=reliable: microvm has no second clock to check this one against, and a kernel that waits for that check
  // keeps its tick of 250 Hz for ever: an idle guest woke 250 times a second, and 15 times with it.
  const words = ["console=ttyS0", "quiet", "panic=-1", "reboot=t"];
  if (tscKhz !== null) words.push(`tsc_early_khz=${tscKhz}`, "tsc=reliable");
  if (spec.cmdline !== "") words.push(spec.cmdline);
  return words.join(" ");
}

function memoryArguments(memory: QemuMemory, sizeMib: number): string[] {
  const backend =
    memory.kind === "memfd"
      ? `memory-backend-memfd,id=ram,size=${sizeMib}M,share=on`
      : `memory-backend-file,id=ram,size=${sizeMib}M,share=off,mem-path=${escaped(memory.path)}`;
  return ["-object", backend, "-m", `${sizeMib}M`];
}

/**
 * The bus is named for each device, as QEMU would otherwise hand them out in an order of its own. Guests do
 * not find what is on bus 0, and find the others from the last to the first (seen with QEMU 7.2 and Linux
 * 6.1): so they are counted down to 1, and the first disk becomes vda, the first nic eth0.
 */
function deviceArguments(spec: VmmSpec): string[] {
  const list: string[] = [];
  let bus = 1 + spec.disks.length + spec.nics.length;
  const nextBus = () => `bus=virtio-mmio-bus.${bus--}`;
  list.push("-device", `virtio-serial-device,id=serial,${nextBus()}`);
  list.push("-device", "virtserialport,bus=serial.0,chardev=agent,name=hearth.agent");
  for (const [index, disk] of spec.disks.entries()) {
    const readOnly = disk.readOnly ? "on" : "off";
    list.push(
      "-drive",
      `id=disk${index},if=none,format=raw,file.locking=off,discard=unmap,readonly=${readOnly},file=${escaped(disk.path)}`,
      "-device",
      `virtio-blk-device,drive=disk${index},serial=disk${index},${nextBus()}`,
    );
  }
  for (const [index, nic] of spec.nics.entries()) {
    list.push(
      "-netdev",
      `tap,id=nic${index},ifname=${escaped(nic.tap)},script=no,downscript=no`,
      "-device",
      `virtio-net-device,netdev=nic${index},mac=${nic.mac},${nextBus()}`,
    );
  }
  return list;
}

/**
 * A guest that sees ERMS copies and clears byte by byte, which the emulator does one byte at a time: without it
 * a boot takes 1.83 s instead of 1.98 s (medians of 6, QEMU 7.2, Linux 6.1).
 */
const cpuModel = (accelerator: Accelerator): string => (accelerator === "kvm" ? "host" : "max,erms=off");

export function qemuArguments(options: QemuArguments): string[] {
  const { spec, accelerator } = options;
  const socket = (path: string) => `path=${escaped(path)},server=on,wait=off`;
  return [
    ...[
      "-name",
      `hearth-${escaped(spec.id)}`,
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
      "-no-reboot",
    ],
    ...["-machine", "microvm,memory-backend=ram,rtc=on", "-accel", accelerator],
    ...["-cpu", cpuModel(accelerator), "-smp", String(spec.cpus)],
    ...memoryArguments(options.memory, spec.memoryMib),
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-kernel", spec.kernel, "-initrd", spec.initrd, "-append", kernelCommandLine(spec, options.tscKhz)],
    ...["-chardev", `socket,id=qmp,${socket(options.qmpSocket)}`, "-mon", "chardev=qmp,mode=control"],
    ...[
      "-chardev",
      `file,id=console,append=on,path=${escaped(spec.consolePath)}`,
      "-serial",
      "chardev:console",
    ],
    ...["-chardev", `socket,id=agent,${socket(options.agentSocket)}`],
    ...deviceArguments(spec),
    ...(options.incoming ? ["-incoming", "defer"] : []),
  ];
}
