/**
 * Joins a channel of SSH with a session of the API, as fast as the slower of them: both are streams with a window, and
 * neither is read while the other does not take.
 */
import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { HearthError } from "@hearth/errors";
import type { ExecStatus } from "@hearth/machine";
import type { ExecSession } from "@hearth/sdk";
import type { ServerChannel } from "ssh2";
import type { AuditEntry } from "./audit.ts";
import { signalName } from "./programs.ts";

/** As the OpenSSH client has it for failures of its own. */
export const failedExit = 255;

export interface Counted {
  bytes_in: number;
  bytes_out: number;
}

/** Resolves when the program has ended and the client was told. Never rejects. */
export async function relay(channel: ServerChannel, session: ExecSession, audit: AuditEntry): Promise<void> {
  const counted: Counted = { bytes_in: 0, bytes_out: 0 };
  channel.on("data", (data: Buffer) => {
    counted.bytes_in += data.length;
  });
  channel.pipe(session.stdin);
  // A client that is gone ends its program.
  channel.once("close", () => session.close());
  const [status] = await Promise.allSettled([
    session.exit,
    drain(session.stdout, channel, channel, counted),
    drain(session.stderr, channel.stderr, channel, counted),
  ]);
  if (status.status === "fulfilled") end(channel, status.value, audit, counted);
  else fail(channel, HearthError.from(status.reason), audit, counted);
}

function end(channel: ServerChannel, status: ExecStatus, audit: AuditEntry, counted: Counted): void {
  if (status.kind === "failed") {
    const { code, message } = status;
    // As a shell says it: 127 where there is no such program, and 126 where it may not be run.
    const exit = code === "entrypoint_not_found" ? 127 : failedExit;
    fail(channel, { code, message }, audit, counted, exit);
    return;
  }
  const { exit_code, exit_signal } = status;
  const signal = exit_signal === 0 ? undefined : signalName(exit_signal);
  if (signal !== undefined) channel.exit(signal, false, "");
  else channel.exit(exit_signal === 0 ? exit_code : 128 + exit_signal);
  channel.end();
  audit.end({ exit_code, exit_signal, ...counted });
}

/** Says why, and ends the channel as a program does that could not begin. */
export function fail(
  channel: ServerChannel,
  { code, message }: { readonly code: string; readonly message: string },
  audit: AuditEntry,
  counted: Partial<Counted> = {},
  exit = failedExit,
): void {
  audit.end({ code, exit_code: exit, ...counted });
  if (channel.destroyed) return;
  channel.stderr.write(`hearth: ${message} (${code})\r\n`);
  channel.exit(exit);
  channel.end();
}

/** Resolves when the client's window has taken all of it, or nobody is there to take it. */
async function drain(
  source: Readable,
  target: Writable,
  channel: ServerChannel,
  counted: Counted,
): Promise<void> {
  const gone = new Promise<void>((resolve) => {
    channel.once("close", () => {
      source.destroy();
      resolve();
    });
  });
  source.on("data", (data: Buffer) => {
    counted.bytes_out += data.length;
  });
  source.pipe(target, { end: false });
  await finished(source, { writable: false });
  const taken = new Promise<void>((resolve) => target.write(Buffer.alloc(0), () => resolve()));
  await Promise.race([taken, gone]);
}
