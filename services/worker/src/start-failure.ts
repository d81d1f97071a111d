/** Why a VM did not come up, with the end of what its kernel said. */
import { open } from "node:fs/promises";
import type { VmmExit } from "@hearth/vmm";
import type { RunParts } from "./run-parts.ts";
import type { StepOutcome } from "./run-step.ts";

const tailBytes = 1_000;

export async function explainStartFailure(
  { paths, limits }: RunParts,
  machineId: string,
  exit: VmmExit | undefined,
): Promise<StepOutcome> {
  const tail = await consoleTail(paths.console(machineId));
  const said = tail === "" ? "Its console is empty." : `Its console ends with:\n${tail}`;
  if (exit !== undefined)
    return {
      kind: "abort",
      code: "vmm_start_failed",
      reason: `The virtual machine ended while it booted (${exit.reason}). ${said}`,
      blame: "platform",
    };
  return {
    kind: "abort",
    code: "guest_unreachable",
    reason: `The guest agent did not answer within ${limits.bootMs / 1000} s. ${said}`,
    blame: "platform",
  };
}

/** Printable text only: what a guest writes is read by people in terminals. */
export async function consoleTail(path: string): Promise<string> {
  const file = await open(path, "r").catch(() => undefined);
  if (file === undefined) return "";
  try {
    const { size } = await file.stat();
    const from = Math.max(0, size - tailBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(tailBytes), 0, tailBytes, from);
    return buffer
      .subarray(0, bytesRead)
      .toString("latin1")
      .replaceAll(/[^\n\x20-\x7e]/g, "")
      .trim();
  } finally {
    await file.close();
  }
}
