/**
 * A session of exec: frames of the bus on one side, the agent's calls on the other. Each side is pulled by the
 * other, so a slow reader at either end stops the writer at the other one, and nothing piles up here.
 */
import type { BusStream } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { GuestClient } from "@hearth/guest";
import { decodeExecFrame, type ExecFrame, type ExecStart, encodeExecFrame } from "@hearth/machine";

type ExecRequest = Parameters<GuestClient["exec"]>[0] extends AsyncIterable<infer Request> ? Request : never;

export interface ExecDefaults {
  readonly user: string;
  readonly workdir: string;
}

export const sendFrame = (stream: BusStream, frame: ExecFrame): Promise<void> =>
  stream.write(encodeExecFrame(frame));

export async function relayExec(
  client: GuestClient,
  stream: BusStream,
  start: ExecStart,
  defaults: ExecDefaults,
  signal: AbortSignal,
): Promise<void> {
  const done = new AbortController();
  try {
    const requests = execRequests(stream, start, defaults, AbortSignal.any([signal, done.signal]));
    for await (const { response } of client.exec(requests, { signal })) {
      switch (response.case) {
        case "stdout":
        case "stderr":
          await sendFrame(stream, { channel: response.case, data: response.value });
          break;
        case "exited": {
          const { code, signal: ended } = response.value;
          const status = { kind: "exited", exit_code: code, exit_signal: ended } as const;
          await sendFrame(stream, { channel: "status", status });
          return;
        }
      }
    }
    throw new HearthError("guest_channel_broken");
  } finally {
    done.abort();
  }
}

async function* execRequests(
  stream: BusStream,
  start: ExecStart,
  defaults: ExecDefaults,
  signal: AbortSignal,
): AsyncGenerator<ExecRequest> {
  const { command: argv, user = defaults.user, workdir = defaults.workdir, env = {}, tty } = start;
  const pty = tty === undefined ? {} : { pty: tty };
  yield { request: { case: "start", value: { argv, user, workdir, env, ...pty } } };
  if (start.stdin !== true) yield { request: { case: "closeStdin", value: {} } };
  for (;;) {
    const message = await stream.read({ signal }).catch((error: unknown) => {
      if (signal.aborted) return undefined;
      throw error;
    });
    if (signal.aborted) return;
    if (message === undefined) break;
    const request = execRequest(decodeExecFrame(message));
    if (request !== undefined) yield request;
  }
  yield { request: { case: "closeStdin", value: {} } };
}

function execRequest(frame: ExecFrame): ExecRequest | undefined {
  switch (frame.channel) {
    case "stdin":
      return { request: { case: "stdin", value: frame.data } };
    case "close":
      return frame.closes === "stdin" ? { request: { case: "closeStdin", value: {} } } : undefined;
    case "control": {
      const { control } = frame;
      if (control.kind === "signal") return { request: { case: "signal", value: control.signal } };
      return { request: { case: "resize", value: { cols: control.cols, rows: control.rows } } };
    }
    default:
      throw new HearthError("invalid_argument", {
        message: `A caller of exec sends no ${frame.channel}.`,
        details: { field: "frame" },
      });
  }
}
