/**
 * A program run in a machine with one answer: it gets its whole input, and its output is held up to a bound.
 * What is beyond the bound is read and dropped, so that the program ends as it would have.
 */
import type { BusStream } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { decodeExecFrame, type ExecStatus, encodeExecFrame } from "@hearth/machine";

export const outputLimitBytes = 1024 * 1024;
const inputFrameBytes = 64 * 1024;

export interface ExecResult {
  readonly exit_code: number;
  readonly exit_signal: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Present and true when output was dropped. */
  readonly truncated?: boolean;
}

class Output {
  readonly #chunks: Uint8Array[] = [];
  #size = 0;
  dropped = false;

  add(data: Uint8Array): void {
    const kept = data.subarray(0, outputLimitBytes - this.#size);
    this.#size += kept.length;
    if (kept.length > 0) this.#chunks.push(kept);
    if (kept.length < data.length) this.dropped = true;
  }

  toString(): string {
    return Buffer.concat(this.#chunks).toString("utf8");
  }
}

/** @throws HearthError `deadline_exceeded`, and what the program could not be started for */
export async function runToEnd(
  stream: BusStream,
  run: { readonly stdin: string | undefined; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<ExecResult> {
  const late = (): void =>
    stream.fail(
      new HearthError("deadline_exceeded", {
        message: `deadline_exceeded: the program did not end within ${run.timeoutMs / 1000} s; it was ended. Give it a longer timeout.`,
        details: { timeout_ms: run.timeoutMs },
      }),
    );
  const left = (): void => stream.fail(run.signal.reason);
  const limit = setTimeout(late, run.timeoutMs);
  run.signal.addEventListener("abort", left, { once: true });
  if (run.signal.aborted) left();
  try {
    // A program may end without reading its input; its status says how it went, not the write.
    void feed(stream, run.stdin).catch(() => undefined);
    const result = await collect(stream);
    // The status is the last that a node says. Input that nobody took is given up: an orderly end would wait for it.
    stream.fail(new HearthError("cancelled"));
    return result;
  } catch (error) {
    stream.fail(error);
    throw error;
  } finally {
    clearTimeout(limit);
    run.signal.removeEventListener("abort", left);
  }
}

async function feed(stream: BusStream, stdin: string | undefined): Promise<void> {
  if (stdin === undefined) return;
  const bytes = Buffer.from(stdin);
  for (let from = 0; from < bytes.length; from += inputFrameBytes)
    await stream.write(
      encodeExecFrame({ channel: "stdin", data: bytes.subarray(from, from + inputFrameBytes) }),
    );
  await stream.write(encodeExecFrame({ channel: "close", closes: "stdin" }));
}

async function collect(stream: BusStream): Promise<ExecResult> {
  const stdout = new Output();
  const stderr = new Output();
  for (;;) {
    const message = await stream.read();
    if (message === undefined) throw new HearthError("guest_channel_broken");
    const frame = decodeExecFrame(message);
    if (frame.channel === "stdout") stdout.add(frame.data);
    else if (frame.channel === "stderr") stderr.add(frame.data);
    else if (frame.channel === "status") return resultOf(frame.status, stdout, stderr);
  }
}

function resultOf(status: ExecStatus, stdout: Output, stderr: Output): ExecResult {
  if (status.kind === "failed") throw HearthError.fromWire(status);
  const { exit_code, exit_signal } = status;
  const result = { exit_code, exit_signal, stdout: String(stdout), stderr: String(stderr) };
  return stdout.dropped || stderr.dropped ? { ...result, truncated: true } : result;
}
