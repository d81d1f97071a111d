/**
 * Whether KVM runs an ordinary guest here.
 *
 * Neither the device node nor a VM created on it proves anything: hosts are seen where both work and a
 * guest never gets past its first instructions. So a guest is booted, and what counts is that its kernel
 * speaks within the limit. The answer holds until the host boots again; callers keep it that long.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";

const defaultLimitMs = 5_000;

export interface KvmProbe {
  readonly usable: boolean;
  /** One sentence for `hearth doctor`. */
  readonly reason: string;
}

export interface ProbeKvmOptions {
  readonly kernel: string;
  readonly binary?: string;
  readonly limitMs?: number;
}

export async function probeKvm(options: ProbeKvmOptions): Promise<KvmProbe> {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (error) {
    return { usable: false, reason: `/dev/kvm cannot be opened (${(error as NodeJS.ErrnoException).code}).` };
  }
  const limitMs = options.limitMs ?? defaultLimitMs;
  const child = spawn(
    options.binary ?? "qemu-system-x86_64",
    [
      ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "128M"],
      ...["-machine", "microvm", "-accel", "kvm", "-cpu", "host", "-sandbox", "on,spawn=deny"],
      // No root file system: a kernel that gets so far as to miss it has booted.
      ...["-kernel", options.kernel, "-append", "console=ttyS0 panic=-1 reboot=t", "-serial", "stdio"],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  try {
    return await verdict(child, limitMs);
  } finally {
    child.kill("SIGKILL");
  }
}

function verdict(child: ChildProcess, limitMs: number): Promise<KvmProbe> {
  return new Promise((resolve) => {
    let spoken = "";
    let complaint = "";
    const answer = (usable: boolean, reason: string) => {
      clearTimeout(timer);
      resolve({ usable, reason });
    };
    const timer = setTimeout(
      () => answer(false, `A guest under KVM did not boot in ${limitMs} ms.`),
      limitMs,
    );
    child.stdout?.on("data", (chunk: Buffer) => {
      spoken += chunk.toString("latin1");
      if (spoken.includes("VFS: Cannot open root device")) answer(true, "A guest boots under KVM.");
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      complaint += chunk.toString("utf8");
    });
    child.once("error", (error) =>
      answer(false, `QEMU did not start (${(error as NodeJS.ErrnoException).code}).`),
    );
    child.once("close", () => {
      const firstLine = complaint.trim().split("\n")[0] ?? "";
      answer(false, `The guest under KVM ended early${firstLine === "" ? "" : `: ${firstLine}`}.`);
    });
  });
}
