/**
 * A client's half of the frames of a session, as packages/machine defines them; a test holds the two together.
 * It is apart because the schemas there take longer to load than a short program takes to run.
 */
import { HearthError } from "@hearth/errors";
import type { ExecControl, ExecFrame, ExecStatus } from "@hearth/machine";

/** What a client sends. */
export type ClientFrame =
  | { readonly channel: "stdin"; readonly data: Uint8Array }
  | { readonly channel: "control"; readonly control: ExecControl }
  | { readonly channel: "close"; readonly closes: "stdin" };

const channels = { stdin: 0, stdout: 1, stderr: 2, status: 3, control: 4, close: 255 } as const;
const dataChannels = ["stdin", "stdout", "stderr"] as const;
/** Without the byte of the channel. */
export const maxFrameBytes = 256 * 1024;

export function encodeClientFrame(frame: ClientFrame): Uint8Array {
  if (frame.channel === "close") return Uint8Array.of(channels.close, channels[frame.closes]);
  const body = frame.channel === "control" ? Buffer.from(JSON.stringify(frame.control)) : frame.data;
  const message = new Uint8Array(body.length + 1);
  message[0] = channels[frame.channel];
  message.set(body, 1);
  return message;
}

/** What a server sends. @throws HearthError `internal` for what is no frame */
export function decodeServerFrame(message: Uint8Array): Exclude<ExecFrame, { channel: "control" }> {
  const [tag] = message;
  const body = message.subarray(1);
  if (tag === channels.status) return { channel: "status", status: readStatus(body) };
  if (tag === channels.close) {
    const closes = body.length === 1 ? dataChannels[body[0] ?? -1] : undefined;
    if (closes === undefined) throw malformed();
    return { channel: "close", closes };
  }
  const channel = tag === undefined ? undefined : dataChannels[tag];
  if (channel === undefined) throw malformed();
  return { channel, data: body };
}

function readStatus(body: Uint8Array): ExecStatus {
  let value: Record<string, unknown> | null;
  try {
    value = JSON.parse(Buffer.from(body).toString("utf8"));
  } catch (cause) {
    throw malformed(cause);
  }
  const { kind, exit_code, exit_signal, code, message } = value ?? {};
  if (kind === "exited" && typeof exit_code === "number" && typeof exit_signal === "number")
    return { kind, exit_code, exit_signal };
  if (kind === "failed" && typeof code === "string" && typeof message === "string")
    return { kind, code, message };
  throw malformed();
}

const malformed = (cause?: unknown): HearthError =>
  new HearthError("internal", {
    message: "The API sent what is no frame of a session; use a client of the API's version.",
    cause,
  });
