import type { Duplex } from "node:stream";

/**
 * The port to a virtual machine monitor: what the rest of Hearth may ask of a VM, whichever program runs it.
 *
 * One instance stands for one VM. Every call may be repeated: a worker that was killed half-way calls again
 * after it has adopted the VM, so starting what runs, pausing what is paused and killing what is gone succeed.
 * The VM outlives the process that started it; the handle is what that process writes down to find it again.
 */
export const VmmKind = { qemu: "qemu", sim: "sim" } as const;
export type VmmKind = (typeof VmmKind)[keyof typeof VmmKind];

export interface VmmDisk {
  /** A raw image file or a block device on the host. */
  readonly path: string;
  readonly readOnly: boolean;
}

export interface VmmNic {
  /** Name of a tap device that exists already. */
  readonly tap: string;
  readonly mac: string;
}

export interface VmmSpec {
  readonly id: string;
  /** Directory of this VM alone, for sockets and logs; made when absent. */
  readonly runDir: string;
  readonly kernel: string;
  readonly initrd: string;
  /** Added after what the driver needs on the kernel's command line, so that it wins. */
  readonly cmdline: string;
  readonly cpus: number;
  readonly memoryMib: number;
  /** In the order in which the guest sees them: /dev/vda, /dev/vdb and so on. */
  readonly disks: readonly VmmDisk[];
  readonly nics: readonly VmmNic[];
  /** The network namespace that the VMM runs in, as a file; the caller's own when absent. Its taps are there. */
  readonly netns?: string;
  /** File that receives the guest's serial console. */
  readonly consolePath: string;
  /** Ends the VMM when its node's lease is over. */
  readonly guard?: VmmGuard;
}

/** The program `vm-guard`, which becomes the VMM and leaves a process beside it. */
export interface VmmGuard {
  readonly program: string;
  /** Holds the moment at which the lease ends: CLOCK_BOOTTIME, milliseconds. */
  readonly leasePath: string;
  readonly graceMs: number;
}

/** The command line of a program that is guarded. */
export function guarded(guard: VmmGuard | undefined, command: readonly string[]): string[] {
  if (guard === undefined) return [...command];
  return [guard.program, "run", guard.leasePath, String(guard.graceMs), "--", ...command];
}

/** The command line of a program that runs in a network namespace; it becomes that program. */
export function inNetns(netns: string | undefined, command: readonly string[]): string[] {
  return netns === undefined ? [...command] : ["nsenter", `--net=${netns}`, "--", ...command];
}

/** What has to differ in a clone, or may. Disks and nics must be as many as in the snapshot. */
export interface VmmRestoreOverrides {
  readonly id: string;
  readonly runDir: string;
  readonly consolePath: string;
  readonly disks?: readonly VmmDisk[];
  readonly nics?: readonly VmmNic[];
  readonly netns?: string;
}

/** Plain JSON. The start time makes the pid unmistakable: the kernel reuses pids, never both together. */
export interface VmmHandle {
  readonly kind: VmmKind;
  readonly id: string;
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat, in clock ticks since the host booted. */
  readonly startTime: string;
  readonly qmpSocket: string;
  readonly agentSocket: string;
  readonly spec: VmmSpec;
}

export const VmmExitReason = {
  /** The guest switched itself off or restarted. */
  guest: "guest",
  /** The guest's kernel panicked. */
  panic: "panic",
  /** `stop` or `kill` was called here. */
  requested: "requested",
  /** The VMM ended and nobody asked it to. */
  crashed: "crashed",
} as const;
export type VmmExitReason = (typeof VmmExitReason)[keyof typeof VmmExitReason];

export interface VmmExit {
  readonly reason: VmmExitReason;
  /** Of the VMM's process; both null when it was adopted, as only a parent learns them. */
  readonly code: number | null;
  readonly signal: string | null;
}

export interface VmmStats {
  /** Processor time of the VMM and its guest since the start, in milliseconds. */
  readonly cpuTimeMs: number;
  readonly residentBytes: number;
}

export interface Vmm {
  readonly kind: VmmKind;
  /** Resolves once the VM runs; the guest's kernel may still boot. Throws vmm_start_failed. */
  start(spec: VmmSpec): Promise<VmmHandle>;
  /** Takes over a VM that another process started. Throws vmm_not_running when it is gone. */
  adopt(handle: VmmHandle): Promise<void>;
  /** A new byte stream to the guest agent's port; an earlier one is ended. Throws vmm_not_running. */
  channel(): Promise<Duplex>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Writes the VM to a directory and leaves it paused. */
  snapshot(dir: string): Promise<void>;
  /** Runs a copy of a snapshot; the directory is only read, and must stay while the copy runs. */
  restore(dir: string, overrides: VmmRestoreOverrides): Promise<VmmHandle>;
  /** Asks the guest to switch off and ends it after `graceMs`. Resolves when the VM is gone. */
  stop(graceMs: number): Promise<void>;
  /** Ends the VM at once. Resolves when it is gone. */
  kill(): Promise<void>;
  stats(): Promise<VmmStats>;
  /** Calls once, also when the VM is gone already. Returns how to stop listening. */
  onExit(listener: (exit: VmmExit) => void): () => void;
  /** Lets go of the VM without ending it, as a worker does that shuts down. */
  [Symbol.asyncDispose](): Promise<void>;
}
