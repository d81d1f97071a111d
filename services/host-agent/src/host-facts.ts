/** What this host has, read where the kernel tells it. Nothing here is a guess: what cannot be read is absent. */
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { availableParallelism } from "node:os";
import { delimiter, join } from "node:path";

export interface HostFacts {
  readonly cpus: number;
  readonly totalMemoryMb: number;
  /** Resolvers that the host itself asks, the first one first. */
  readonly nameservers: readonly string[];
  readonly hasCgroupV2: boolean;
  readonly isRoot: boolean;
  /** Programs that Hearth runs and that are not there. */
  readonly missingPrograms: readonly string[];
}

const programs = [
  "qemu-system-x86_64",
  "nats-server",
  "nft",
  "ip",
  "tc",
  "nsenter",
  "sysctl",
  "mksquashfs",
  "mkfs.ext4",
];

export function readHostFacts(path: string): HostFacts {
  return {
    cpus: availableParallelism(),
    totalMemoryMb: Math.min(physicalMemoryMb(read("/proc/meminfo")), cgroupLimitMb()),
    nameservers: parseNameservers(read("/etc/resolv.conf")),
    hasCgroupV2: existsSync("/sys/fs/cgroup/cgroup.controllers"),
    isRoot: process.getuid?.() === 0,
    missingPrograms: programs.filter((name) => !isInPath(name, path)),
  };
}

/** MemTotal of /proc/meminfo, in MiB. */
export function physicalMemoryMb(meminfo: string): number {
  const [, kib] = /^MemTotal:\s+(\d+) kB$/m.exec(meminfo) ?? [];
  return Math.floor(Number(kib ?? 0) / 1024);
}

/** A container may use less than its host has. */
function cgroupLimitMb(): number {
  const limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
    .map((path) => Number.parseInt(read(path), 10))
    .filter((bytes) => bytes > 0);
  return Math.floor(Math.min(Number.POSITIVE_INFINITY, ...limits) / 1024 ** 2);
}

/** Those of a resolv.conf. An address of a link is left out: it says nothing without the link. */
export function parseNameservers(text: string): string[] {
  const found = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, address = ""]) => address);
  return [...new Set(found)]
    .filter((address) => isIP(address) !== 0 && !/^fe80:|%/i.test(address))
    .slice(0, 3);
}

function isInPath(name: string, path: string): boolean {
  return path.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
