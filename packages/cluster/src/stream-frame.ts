/** The frames of a bus stream: one byte of kind, four of sequence (big endian), then the body. */
import { HearthError } from "@hearth/errors";

export const FrameKind = { data: 0, credit: 1, end: 2, error: 3, heartbeat: 4 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export interface Frame {
  readonly kind: FrameKind;
  readonly sequence: number;
  readonly body: Uint8Array;
}

const headerBytes = 5;

export function encodeFrame(kind: FrameKind, sequence: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(headerBytes + body.length);
  bytes[0] = kind;
  new DataView(bytes.buffer).setUint32(1, sequence >>> 0);
  bytes.set(body, headerBytes);
  return bytes;
}

/** Throws `invalid_argument` when the bytes are not a frame. */
export function decodeFrame(bytes: Uint8Array): Frame {
  const kind = bytes[0];
  if (bytes.length < headerBytes || kind === undefined || kind > FrameKind.heartbeat) {
    throw new HearthError("invalid_argument", { message: "Not a frame of a bus stream." });
  }
  const sequence = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
  return { kind: kind as FrameKind, sequence, body: bytes.subarray(headerBytes) };
}

export function encodeCredit(bytes: number): Uint8Array {
  const body = new Uint8Array(4);
  new DataView(body.buffer).setUint32(0, bytes);
  return body;
}

export function decodeCredit(body: Uint8Array): number {
  if (body.length !== 4) throw new HearthError("invalid_argument", { message: "Not a credit frame." });
  return new DataView(body.buffer, body.byteOffset).getUint32(0);
}
