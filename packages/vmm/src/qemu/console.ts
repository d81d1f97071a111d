/** What the guest's kernel said last. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const tailBytes = 16_384;

/** The end of a console file; empty when there is none. */
export function consoleTail(path: string, limitBytes = tailBytes): string {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    return "";
  }
  try {
    const size = fstatSync(file).size;
    const buffer = Buffer.alloc(Math.min(size, limitBytes));
    const read = readSync(file, buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString("utf8", 0, read);
  } finally {
    closeSync(file);
  }
}

export const saysPanic = (consolePath: string): boolean =>
  consoleTail(consolePath).includes("Kernel panic - not syncing");
