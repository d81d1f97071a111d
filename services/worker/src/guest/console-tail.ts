/** The end of what a guest said on its console. A guest is hostile and people read this in terminals. */
import { open } from "node:fs/promises";

/** Kept with the run; an event, which travels in every fact of its machine, has the end of it. */
export const keptTailCharacters = 4_000;
const eventTailCharacters = 1_000;

// Cursor movements, colours, window titles: the sequences of ECMA-48, with what they carry.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const escapeSequences = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])/g;

/** Lines of printable ASCII and nothing else. */
export const printable = (text: string): string =>
  text
    .replaceAll(escapeSequences, "")
    .replaceAll("\t", " ")
    .replaceAll(/[^\n\x20-\x7e]/g, "")
    .trim();

/** The last characters, from the beginning of a line where there is one. */
export function lastLines(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const end = text.slice(-limit);
  const newline = end.indexOf("\n");
  return newline < 0 || newline === end.length - 1 ? end : end.slice(newline + 1);
}

export const tailForEvent = (tail: string): string => lastLines(tail, eventTailCharacters);

/** Empty when there is no such file. Reads only its end, however much a guest wrote. */
export async function consoleTail(path: string): Promise<string> {
  const file = await open(path, "r").catch(() => undefined);
  if (file === undefined) return "";
  try {
    const { size } = await file.stat();
    const limit = keptTailCharacters * 2;
    const { buffer, bytesRead } = await file.read(Buffer.alloc(limit), 0, limit, Math.max(0, size - limit));
    return lastLines(printable(buffer.subarray(0, bytesRead).toString("latin1")), keptTailCharacters);
  } finally {
    await file.close();
  }
}
