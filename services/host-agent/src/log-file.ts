/**
 * The log of one service, never larger than twice its limit. Services write to it themselves, by a descriptor
 * opened for appending, so that they go on logging when the agent is gone; so it is shortened in place. What is
 * written in the instant between the copy and the cut is lost.
 */
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
} from "node:fs";
import { dirname } from "node:path";

export const defaultLogLimitBytes = 8 * 1024 * 1024;

export class LogFile {
  readonly path: string;
  readonly #limitBytes: number;

  constructor(path: string, limitBytes: number = defaultLogLimitBytes) {
    this.path = path;
    this.#limitBytes = limitBytes;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  }

  /** A descriptor for a child's output; the caller closes it. */
  open(): number {
    return openSync(this.path, "a", 0o600);
  }

  append(line: string): void {
    appendFileSync(this.path, `${line}\n`, { mode: 0o600 });
  }

  /** Moves what is there to `<path>.1` when it is over the limit. */
  shorten(): void {
    if ((statSync(this.path, { throwIfNoEntry: false })?.size ?? 0) <= this.#limitBytes) return;
    copyFileSync(this.path, `${this.path}.1`);
    truncateSync(this.path, 0);
  }

  /** What a service said last, since this time, of why it cannot go on: a structured line of level `fatal`. */
  fatalSince(sinceMs: number): string | undefined {
    for (const line of this.tail(50).reverse()) {
      if (!line.includes('"fatal"')) continue;
      try {
        const { level, time, msg } = JSON.parse(line) as Readonly<Record<string, unknown>>;
        if (level === "fatal" && Date.parse(String(time)) >= sinceMs && typeof msg === "string") return msg;
      } catch {
        // A program's own output, which only looks like a line of ours.
      }
    }
    return undefined;
  }

  /** The last lines, for a person who must learn why a service does not start. */
  tail(lines: number): string[] {
    try {
      return readFileSync(this.path, "utf8").trimEnd().split("\n").slice(-lines);
    } catch {
      return [];
    }
  }
}
