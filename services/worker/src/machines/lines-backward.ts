import { open } from "node:fs/promises";

const stepBytes = 64 * 1024;

/**
 * Where the last `count` lines before `end` begin, and how many are missing because the file has fewer. Reads
 * backward in steps, so it costs what is answered and not what the file holds.
 */
export async function linesBackward(
  path: string,
  end: number,
  count: number,
): Promise<{ readonly offset: number; readonly missing: number }> {
  if (end === 0 || count === 0) return { offset: end, missing: count };
  const file = await open(path, "r");
  try {
    const buffer = Buffer.alloc(stepBytes);
    let left = count;
    // The newline that ends the last line begins no other.
    for (let at = end - 1; at > 0; ) {
      const from = Math.max(0, at - stepBytes);
      await file.read(buffer, 0, at - from, from);
      for (let index = at - from - 1; index >= 0; index -= 1) {
        if (buffer[index] !== 10) continue;
        left -= 1;
        if (left === 0) return { offset: from + index + 1, missing: 0 };
      }
      at = from;
    }
    return { offset: 0, missing: left - 1 };
  } finally {
    await file.close();
  }
}
