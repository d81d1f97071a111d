import type { Machine } from "@hearth/sdk";
import { note } from "./output.ts";

/** What was asked of a machine and has no effect, and which nodes were asked and did not take it. */
export function warn({ warnings = [], placement }: Machine): void {
  for (const { message } of warnings) note(`hearth: ${message}`);
  const asked = placement?.considered.filter(({ code }) => askedCodes.has(code)) ?? [];
  for (const { node_id, reason } of asked) note(`hearth: node ${node_id} did not take it: ${reason}`);
}

const askedCodes: ReadonlySet<string> = new Set(["refused", "no_answer", "image"]);
