/**
 * A session of exec as messages: one byte of channel, then the channel's bytes. Data channels carry raw bytes,
 * `status` and `control` carry JSON, `close` carries the number of the channel that ends. The transport keeps
 * messages apart, so a frame has no length of its own.
 */
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";

export const execChannel = { stdin: 0, stdout: 1, stderr: 2, status: 3, control: 4, close: 255 } as const;

const closed = { additionalProperties: false } as const;

/** The last frame of a session: how the program ended, or why it never began. */
export const ExecStatus = Type.Union([
  Type.Object(
    { kind: Type.Literal("exited"), exit_code: Type.Integer(), exit_signal: Type.Integer() },
    closed,
  ),
  Type.Object({ kind: Type.Literal("failed"), code: Type.String(), message: Type.String() }, closed),
]);
export type ExecStatus = Type.Static<typeof ExecStatus>;

const cells = Type.Integer({ minimum: 1, maximum: 65_535 });
export const ExecControl = Type.Union([
  Type.Object({ kind: Type.Literal("resize"), cols: cells, rows: cells }, closed),
  Type.Object({ kind: Type.Literal("signal"), signal: Type.Integer({ minimum: 1, maximum: 64 }) }, closed),
]);
export type ExecControl = Type.Static<typeof ExecControl>;

export type ExecFrame =
  | { readonly channel: "stdin" | "stdout" | "stderr"; readonly data: Uint8Array }
  | { readonly channel: "status"; readonly status: ExecStatus }
  | { readonly channel: "control"; readonly control: ExecControl }
  | { readonly channel: "close"; readonly closes: "stdin" | "stdout" | "stderr" };

const dataChannels = ["stdin", "stdout", "stderr"] as const;
/** So that a frame fits into one message of every transport on its way: the bus takes 512 KiB. */
export const maxExecFrameBytes = 256 * 1024;

export function encodeExecFrame(frame: ExecFrame): Uint8Array {
  switch (frame.channel) {
    case "status":
      return tagged(execChannel.status, Buffer.from(JSON.stringify(frame.status)));
    case "control":
      return tagged(execChannel.control, Buffer.from(JSON.stringify(frame.control)));
    case "close":
      return Uint8Array.of(execChannel.close, execChannel[frame.closes]);
    default:
      return tagged(execChannel[frame.channel], frame.data);
  }
}

/** @throws HearthError `invalid_argument` for what is no frame, `payload_too_large` above `maxExecFrameBytes` */
export function decodeExecFrame(message: Uint8Array): ExecFrame {
  if (message.length > maxExecFrameBytes + 1) throw new HearthError("payload_too_large");
  const [tag] = message;
  const body = message.subarray(1);
  if (tag === execChannel.status) return { channel: "status", status: parseJson(ExecStatus, body) };
  if (tag === execChannel.control) return { channel: "control", control: parseJson(ExecControl, body) };
  if (tag === execChannel.close) return { channel: "close", closes: closedChannel(body) };
  const channel = tag === undefined ? undefined : dataChannels[tag];
  if (channel === undefined) throw malformed("has no known channel");
  return { channel, data: body };
}

function closedChannel(body: Uint8Array): (typeof dataChannels)[number] {
  const channel = body.length === 1 ? dataChannels[body[0] ?? -1] : undefined;
  if (channel === undefined) throw malformed("closes no known channel");
  return channel;
}

function parseJson<T extends Type.TSchema>(schema: T, body: Uint8Array): Type.Static<T> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (cause) {
    throw malformed("is not JSON", cause);
  }
  if (Value.Check(schema, value)) return value;
  throw malformed("has another shape than its channel");
}

const malformed = (problem: string, cause?: unknown): HearthError =>
  new HearthError("invalid_argument", {
    message: `A frame of exec ${problem}.`,
    details: { field: "frame" },
    cause,
  });

function tagged(tag: number, body: Uint8Array): Uint8Array {
  const message = new Uint8Array(body.length + 1);
  message[0] = tag;
  message.set(body, 1);
  return message;
}
