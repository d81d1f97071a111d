/** What commands print: tables and text for people, JSON for programs. */
import type { Readable, Writable } from "node:stream";

export function printLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  printLine(JSON.stringify(value, null, 2));
}

/** One value a line, for output that goes on. */
export function printJsonLine(value: unknown): void {
  printLine(JSON.stringify(value));
}

/** For people only: never part of what a program reads. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

export type Row = readonly string[];

export function printTable(head: Row, rows: readonly Row[]): void {
  process.stdout.write(formatTable(head, rows));
}

export function formatTable(head: Row, rows: readonly Row[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)),
  );
  const line = (row: Row): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  return [head, ...rows].map((row) => `${line(row)}\n`).join("");
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** How long ago, in the largest unit that says something. */
export function formatAge(then: string | number, nowMs: number = Date.now()): string {
  const seconds = Math.max(0, Math.floor((nowMs - new Date(then).getTime()) / 1000));
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Writes and waits until the reader has room again. */
export async function writeAll(target: Writable, data: Uint8Array | string): Promise<void> {
  if (target.write(data)) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      target.off("drain", done);
      target.off("close", done);
      resolve();
    };
    target.on("drain", done);
    target.on("close", done);
  });
}

/** Copies bytes as fast as the slower side, and leaves the target open. */
export async function pump(source: Readable, target: Writable): Promise<void> {
  for await (const chunk of source as AsyncIterable<Buffer>) await writeAll(target, chunk);
}

/** Resolves when everything written to the two outputs has left this process. */
export async function flushOutputs(): Promise<void> {
  await Promise.all(
    [process.stdout, process.stderr].map(
      (stream) => new Promise<void>((resolve) => stream.write("", () => resolve())),
    ),
  );
}
