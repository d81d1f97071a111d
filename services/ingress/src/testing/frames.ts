/** Frames of HTTP/2 by hand, for the tests of what a peer may send that no library would. RFC 9113 4.1. */
import { once } from "node:events";
import type { Duplex } from "node:stream";

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export const frameType = {
  ...{ data: 0, headers: 1, priority: 2, rstStream: 3, settings: 4, pushPromise: 5 },
  ...{ ping: 6, goaway: 7, windowUpdate: 8, continuation: 9 },
} as const;
export const endStream = 0x1;
export const ack = 0x1;
export const endHeaders = 0x4;

export function frame(type: number, flags: number, stream: number, payload: Buffer | string = ""): Buffer {
  const body = typeof payload === "string" ? Buffer.from(payload, "latin1") : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/** HPACK without tables and without Huffman: each field a literal that is not indexed (RFC 7541 6.2.2). */
export function headerBlock(fields: readonly (readonly [string, string])[]): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) parts.push(Buffer.from([0]), literal(name), literal(value));
  return Buffer.concat(parts);
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  return Buffer.concat([integer(bytes.length), bytes]);
}

/** RFC 7541 5.1, with a prefix of seven bits. */
function integer(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
  return Buffer.from(bytes);
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** All frames that come, until the connection ends; `seen` resolves with the first that is meant. */
export function readFrames(socket: Duplex, each: (frame: Frame) => void = () => undefined) {
  const frames: Frame[] = [];
  let held = Buffer.alloc(0);
  let told: () => void = () => undefined;
  let isOver = false;
  const over = (): void => {
    isOver = true;
    told();
  };
  socket.on("error", over);
  socket.on("close", over);
  socket.on("data", (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 9 && held.length >= 9 + held.readUIntBE(0, 3)) {
      const length = held.readUIntBE(0, 3);
      const [type, flags, stream] = [held.readUInt8(3), held.readUInt8(4), held.readUInt32BE(5)];
      const found = { type, flags, stream, payload: held.subarray(9, 9 + length) };
      frames.push(found);
      each(found);
      held = held.subarray(9 + length);
    }
    told();
  });
  return {
    frames,
    /** Undefined when the connection ended without it. */
    async seen(meant: (each: Frame) => boolean): Promise<Frame | undefined> {
      for (;;) {
        const found = frames.find(meant);
        if (found !== undefined || isOver) return found;
        await new Promise<void>((resolve) => {
          told = resolve;
        });
      }
    },
    async closed(): Promise<void> {
      if (!isOver) await once(socket, "close", { signal: AbortSignal.timeout(60_000) });
    },
  };
}
