/** Joins the streams of a session with those of this process, as fast as the slowest of them. */
import type { Readable, Writable } from "node:stream";
import type { ExecStatus } from "@hearth/machine";
import type { ExecSession } from "@hearth/sdk";
import { printJsonLine, writeAll } from "./output.ts";
import { enterRawMode, onResize } from "./terminal.ts";

export interface Outputs {
  readonly stdout: (data: Buffer) => Promise<void>;
  readonly stderr: (data: Buffer) => Promise<void>;
}

/** Bytes as they are, or with `json` a line for each chunk, with its bytes as base64 as in the API's logs. */
export function processOutputs(json: boolean): Outputs {
  const to = (target: Writable, stream: string) => async (data: Buffer) =>
    json ? await writeAll(process.stdout, outputLine(stream, data)) : await writeAll(target, data);
  return { stdout: to(process.stdout, "stdout"), stderr: to(process.stderr, "stderr") };
}

const outputLine = (stream: string, data: Buffer): string =>
  `${JSON.stringify({ kind: "output", stream, data: data.toString("base64") })}\n`;

export function printExit(status: ExecStatus): void {
  printJsonLine(status);
}

export interface RelayOptions {
  readonly outputs: Outputs;
  /** Whether standard input goes to the program. */
  readonly stdin: boolean;
  /** Whether the program has a terminal, so that this one is made transparent. */
  readonly tty: boolean;
}

/** Resolves when the program has ended and all that it wrote was taken. */
export async function relay(
  session: ExecSession,
  { outputs, stdin, tty }: RelayOptions,
): Promise<ExecStatus> {
  const restore = tty && stdin ? enterRawMode() : () => undefined;
  const ignoreSizes = tty ? onResize((size) => session.resize(size)) : () => undefined;
  if (stdin) feed(session);
  try {
    const [status] = await Promise.all([
      session.exit,
      drain(session.stdout, outputs.stdout),
      drain(session.stderr, outputs.stderr),
    ]);
    return status;
  } finally {
    ignoreSizes();
    restore();
    if (stdin) process.stdin.unpipe(session.stdin).pause();
  }
}

function feed(session: ExecSession): void {
  // Input that cannot be read is at its end.
  process.stdin.once("error", () => session.stdin.end());
  process.stdin.pipe(session.stdin);
}

async function drain(source: Readable, take: (data: Buffer) => Promise<void>): Promise<void> {
  try {
    for await (const data of source as AsyncIterable<Buffer>) await take(data);
  } catch {
    // The session broke; its exit says why.
  }
}
