/** How hard the host is pressed, from what the kernel says, and from where on that is a problem or worth a warning. */
import { readFileSync, statfsSync } from "node:fs";
import type { NodePressure } from "@hearth/machine";

export const pressureLimits = {
  /** Percent from which the node takes no new machine. */
  memoryUsed: 95,
  diskUsed: 95,
  /** Free megabytes under which it takes none either: what the files of a start may need. */
  diskFreeMb: 8,
  /** Percent of the time in which something waited for a processor: a warning, as machines only become slower. */
  cpuWaiting: 80,
} as const;

const mib = 1024 ** 2;

/** @param directory whose file system counts */
export function readPressure(directory: string): NodePressure | undefined {
  try {
    const disk = statfsSync(directory);
    const usable = disk.blocks - disk.bfree + disk.bavail;
    const cpu_waiting = waitingPercent();
    return {
      ...(cpu_waiting === undefined ? {} : { cpu_waiting }),
      memory_used: memoryUsed(readFileSync("/proc/meminfo", "utf8")),
      disk_used: Math.round(100 * (1 - disk.bavail / Math.max(1, usable))),
      disk_free_mb: Math.floor((disk.bavail * disk.bsize) / mib),
    };
  } catch {
    return undefined; // what the kernel does not tell is not invented
  }
}

export function pressureProblems({ memory_used, disk_used, disk_free_mb }: NodePressure): string[] {
  return [
    ...(memory_used >= pressureLimits.memoryUsed
      ? [`The host's memory is ${memory_used} % used; stop machines or other programs on it.`]
      : []),
    ...(disk_used >= pressureLimits.diskUsed || disk_free_mb < pressureLimits.diskFreeMb
      ? [`The disk of the data directory has ${disk_free_mb} MB left (${disk_used} % used); make room on it.`]
      : []),
  ];
}

export function pressureWarnings({ cpu_waiting }: NodePressure): string[] {
  return cpu_waiting !== undefined && cpu_waiting >= pressureLimits.cpuWaiting
    ? [`Something waited for a processor in ${cpu_waiting} % of the last minute; machines here are slow.`]
    : [];
}

export function memoryUsed(meminfo: string): number {
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(meminfo)?.[1]);
  return Math.round(100 * (1 - of("MemAvailable") / of("MemTotal")));
}

/** Pressure stall information (Documentation/accounting/psi.rst), which not every kernel has. */
function waitingPercent(): number | undefined {
  try {
    const some = /^some .*avg60=([\d.]+)/m.exec(readFileSync("/proc/pressure/cpu", "utf8"))?.[1];
    return some === undefined ? undefined : Math.round(Number(some));
  } catch {
    return undefined;
  }
}
