/**
 * The host's side of the handshake that guest-agent/src/channel.rs describes.
 *
 * A serial port keeps no record of who talks: the agent may be booting, waiting, or in the middle of an old
 * HTTP/2 conversation with a host that is gone. The line is repeated until it is answered, and from the
 * second time on it comes after more padding than an HTTP/2 frame holds, so that an old conversation reads
 * it as a frame beyond the limit and ends. Nothing after READY is taken from the stream.
 */
import type { Duplex } from "node:stream";
import { HearthError } from "@hearth/errors";

/** More than the largest frame that the agent accepts (16 KiB), its header included. */
const padding = Buffer.alloc(17 * 1024, "\n");
/** Answers are shorter; what is longer is the end of an old conversation. */
const keptBytes = 256;

export interface SynchroniseOptions {
  /** 32 lower-case hex digits, new for each call. */
  readonly nonce: string;
  readonly repeatMs: number;
  readonly signal: AbortSignal;
}

/** Throws guest_channel_broken when the stream ends, and the signal's reason when it aborts. */
export async function synchronise(stream: Duplex, options: SynchroniseOptions): Promise<void> {
  const sync = `HEARTH-SYNC ${options.nonce}\n`;
  stream.write(sync);
  const repeat = setInterval(() => {
    // A guest that does not read yet must not make the host pile up attempts.
    if (stream.writableLength === 0) stream.write(Buffer.concat([padding, Buffer.from(sync)]));
  }, options.repeatMs);
  try {
    await readPast(stream, `HEARTH-SYNC-OK ${options.nonce}\n`, options.signal);
  } finally {
    clearInterval(repeat);
  }
  stream.write(`GO ${options.nonce}\n`);
  await readPast(stream, `READY ${options.nonce}\n`, options.signal);
}

/** Discards everything up to and with `mark`; the bytes after it go back into the stream. */
function readPast(stream: Duplex, mark: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = Buffer.alloc(0);
    const finish = (settle: () => void): void => {
      stream.off("readable", onReadable).off("end", onEnd).off("close", onEnd).off("error", onError);
      signal.removeEventListener("abort", onAbort);
      settle();
    };
    const onReadable = (): void => {
      for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) {
        seen = Buffer.concat([seen, chunk]);
        const at = seen.indexOf(mark);
        if (at >= 0) {
          const rest = seen.subarray(at + mark.length);
          finish(resolve);
          if (rest.length > 0) stream.unshift(rest);
          return;
        }
        seen = seen.subarray(Math.max(0, seen.length - keptBytes));
      }
    };
    const onEnd = (): void => finish(() => reject(new HearthError("guest_channel_broken")));
    const onError = (cause: Error): void =>
      finish(() => reject(new HearthError("guest_channel_broken", { cause })));
    const onAbort = (): void => finish(() => reject(signal.reason));
    if (signal.aborted) return reject(signal.reason);
    if (stream.destroyed || stream.readableEnded) return reject(new HearthError("guest_channel_broken"));
    stream.on("readable", onReadable).once("end", onEnd).once("close", onEnd).once("error", onError);
    signal.addEventListener("abort", onAbort, { once: true });
    onReadable();
  });
}
