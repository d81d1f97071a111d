/** Options that several commands share, and the reading of their values. */
import { parseDurationMs } from "@hearth/machine";
import { InvalidArgumentError, Option } from "commander";

/** Collects the values of an option that may be given more than once. */
export const repeated = (value: string, before: readonly string[] | undefined): string[] => [
  ...(before ?? []),
  value,
];

export const appOption = (): Option => new Option("--app <app>", "only look in this app (default: all apps)");

export const jsonOption = (): Option => new Option("--json", "print JSON");

export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("Give a whole number.");
  return Number(text);
}

export function parsePositive(text: string): number {
  const count = parseCount(text);
  if (count === 0) throw new InvalidArgumentError("Give a number of at least 1.");
  return count;
}

const mebibytes: Readonly<Record<string, number>> = { b: 1 / 1024 ** 2, k: 1 / 1024, "": 1, m: 1, g: 1024 };

/** Such as 512, 512m or 2g; a bare number is MiB. The result is whole MiB. */
export function parseMemoryMb(text: string): number {
  const [, number = "", unit = ""] = /^(\d+(?:\.\d+)?)([bkmg]?)(?:i?b)?$/i.exec(text) ?? [];
  const factor = mebibytes[unit.toLowerCase()];
  if (number === "" || factor === undefined)
    throw new InvalidArgumentError("Give memory as 512m or 2g; a bare number is MiB.");
  return Math.max(1, Math.floor(Number(number) * factor));
}

/** `NAME=value`; the value may hold more equals signs. */
export function parsePairs(what: string, pairs: readonly string[] | undefined): Record<string, string> {
  const map: Record<string, string> = {};
  for (const pair of pairs ?? []) {
    const at = pair.indexOf("=");
    if (at <= 0) throw new InvalidArgumentError(`${what} is written NAME=value, not "${pair}".`);
    map[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return map;
}

/** What stands after the operand, without the `--` that may set it off. */
export const commandWords = (words: readonly string[]): string[] =>
  words[0] === "--" ? words.slice(1) : [...words];

/** How long something counts, in seconds. */
export function parseLife(text: string): number {
  const days = /^(\d{1,4})d$/.exec(text)?.[1];
  if (days !== undefined) return Number(days) * 86_400;
  try {
    return Math.floor(parseDurationMs(text, "expires") / 1000);
  } catch {
    throw new InvalidArgumentError("Write it as 30m, 24h or 90d.");
  }
}
