import type { Machine } from "@hearth/sdk";
import { note } from "./output.ts";

/** What was asked of a machine and has no effect. */
export function warn({ warnings = [] }: Machine): void {
  for (const { message } of warnings) note(`hearth: ${message}`);
}
