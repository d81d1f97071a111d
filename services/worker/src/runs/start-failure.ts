/** Why a VM did not come up. What its kernel said last is kept with the run that failed. */
import type { VmmExit } from "@hearth/vmm";
import type { StepOutcome } from "../journal/run-step.ts";
import type { RunParts } from "./run-parts.ts";

export function explainStartFailure({ limits }: RunParts, exit: VmmExit | undefined): StepOutcome {
  if (exit !== undefined)
    return {
      kind: "abort",
      code: "vmm_start_failed",
      reason: `The virtual machine ended while it booted (${exit.reason}); \`hearth explain\` shows its console.`,
      blame: "platform",
    };
  return {
    kind: "abort",
    code: "guest_unreachable",
    reason: `The guest agent did not answer within ${limits.bootMs / 1000} s; \`hearth explain\` shows its console.`,
    blame: "platform",
  };
}
