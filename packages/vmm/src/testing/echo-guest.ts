/** The guest of the contract suite: the platform's kernel, busybox, and one loop. */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface EchoGuest {
  readonly kernel: string;
  readonly initrd: string;
}

const busybox = "/bin/busybox";
const repository = join(import.meta.dirname, "../../../..");

/** The modules are loaded in the order of the assets; those that a console needs are enough. */
const init = `#!/bin/busybox sh
export PATH=/bin
busybox mount -t devtmpfs dev /dev
busybox mount -t sysfs sys /sys
for module in virtio_ring virtio virtio_mmio virtio_blk virtio_console; do busybox insmod /modules/$module.ko; done
port=
while [ -z "$port" ]; do
  for name in /sys/class/virtio-ports/*/name; do
    [ -e "$name" ] && [ "$(busybox cat $name)" = hearth.agent ] && port=/dev/$(busybox basename $(busybox dirname $name))
  done
  [ -n "$port" ] || busybox usleep 5000
done
exec 3<>$port
echo "console ready"
echo ready >&3
# The port reads as ended while nobody is connected on the host's side, so the end is not the end.
while :; do
  while read -r line <&3; do
    case $line in
      poweroff) busybox poweroff -f ;;
      panic) busybox mount -t proc proc /proc; echo c >/proc/sysrq-trigger ;;
      disks)
        for disk in vda vdb vdc; do
          at=/sys/block/$disk
          echo "$disk $(busybox cat $at/size) ro=$(busybox cat $at/ro) $(busybox cat $at/serial)" >&3
        done
        echo "disks end" >&3 ;;
      get) echo "value $value" >&3 ;;
      set*) value=\${line#set }; echo "echo $line" >&3 ;;
      *) echo "echo $line" >&3 ;;
    esac
  done
  busybox usleep 5000
done
`;

/** Makes the guest in a directory. A string is the reason why it cannot be made here. */
export function makeEchoGuest(directory: string): EchoGuest | string {
  if (!existsSync(busybox)) return "this host has no /bin/busybox; install busybox-static";
  const assets = join(repository, ".hearth/assets");
  try {
    execFileSync("bash", [join(repository, "scripts/assets.sh")], { stdio: ["ignore", "ignore", "pipe"] });
    execFileSync("qemu-system-x86_64", ["--version"], { stdio: "ignore" });
  } catch (error) {
    return `the guest's kernel or QEMU is missing: ${String(error).slice(0, 500)}`;
  }
  const tree = join(directory, "initrd");
  for (const name of ["bin", "dev", "proc", "sys", "modules"])
    mkdirSync(join(tree, name), { recursive: true });
  copyFileSync(busybox, join(tree, "bin/busybox"));
  cpSync(join(assets, "modules"), join(tree, "modules"), { recursive: true });
  writeFileSync(join(tree, "init"), init);
  for (const name of ["init", "bin/busybox"]) chmodSync(join(tree, name), 0o755);
  const initrd = join(directory, "initrd.cpio");
  execFileSync("sh", [
    "-c",
    'cd "$1" && find . -mindepth 1 | cpio -o -H newc -R 0:0 --quiet >"$2"',
    "sh",
    tree,
    initrd,
  ]);
  if (readFileSync(initrd).length === 0) return "cpio made an empty initrd";
  return { kernel: join(assets, "vmlinux"), initrd };
}
