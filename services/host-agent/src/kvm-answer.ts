/**
 * Whether KVM runs guests here, asked once per boot of the host. The answer is about this kernel on this host,
 * so it is kept beside the kernel, where every platform of the host finds it.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { KvmProbe, probeKvm } from "@hearth/vmm";
import { writeWhole } from "./node-identity.ts";
import { bootId } from "./process-identity.ts";

interface KeptAnswer extends KvmProbe {
  readonly boot_id: string;
  readonly kernel_mtime_ms: number;
}

export async function kvmAnswer(assetsDir: string, probe: typeof probeKvm): Promise<KvmProbe> {
  const kernel = join(assetsDir, "vmlinux");
  const path = join(assetsDir, "kvm-answer.json");
  const key = { boot_id: bootId(), kernel_mtime_ms: statSync(kernel).mtimeMs };
  const kept = readKept(path);
  if (kept?.boot_id === key.boot_id && kept.kernel_mtime_ms === key.kernel_mtime_ms) return kept;
  const { usable, reason } = await probe({ kernel });
  try {
    writeWhole(path, JSON.stringify({ ...key, usable, reason } satisfies KeptAnswer), 0o644);
  } catch {
    // Assets may be read-only, as in a package. Then each start asks anew.
  }
  return { usable, reason };
}

function readKept(path: string): KeptAnswer | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as KeptAnswer;
  } catch {
    return undefined;
  }
}
