/**
 * A connection to a guest, for whatever is spoken on it.
 *
 * A guest may answer and close before it has read all that it is sent. Its kernel then resets the connection, and the
 * next write here fails, while the answer lies in this host's kernel: Linux keeps what came before a reset until it is
 * read. So a write that fails does not end the connection; it is never done, and what is still to be read ends it. What
 * the guest's own kernel had not sent when it reset is lost, and nothing here can get it.
 */
import { Socket } from "node:net";
import { connectTimeout } from "../choosing/unreachable.ts";

const broken: ReadonlySet<string> = new Set(["EPIPE", "ECONNRESET"]);

type Written = (error?: Error | null) => void;

/** One buffer for all: what was read is worked off before the next read. */
const readBytes = 64 * 1024;
let readBuffer: Buffer | undefined;

class GuestSocket extends Socket {
  #done: Written | undefined;
  #wrapped: Written = () => undefined;

  override _write(chunk: unknown, encoding: BufferEncoding, done: Written): void {
    super._write(chunk, encoding, this.#orReadOn(done));
  }

  override _writev(
    chunks: { readonly chunk: unknown; readonly encoding: BufferEncoding }[],
    done: Written,
  ): void {
    super._writev?.(chunks as never, this.#orReadOn(done));
  }

  /** Node's stream gives the same `done` for each of its writes. */
  #orReadOn(done: Written): Written {
    if (done === this.#done) return this.#wrapped;
    this.#done = done;
    this.#wrapped = (error) => {
      const { code = "" } = (error ?? {}) as NodeJS.ErrnoException;
      // A socket that is destroyed ends all its writes.
      if (!broken.has(code) || this.readableEnded || this.destroyed) done(error);
    };
    return this.#wrapped;
  }
}

export interface GuestAddress {
  readonly address: string;
  readonly port: number;
}

export interface ConnectOptions {
  readonly limitMs: number;
  readonly signal?: AbortSignal | undefined;
  /** The guest may end its direction and go on reading. */
  readonly halfOpen?: boolean;
  /**
   * Is given what comes, instead of the stream, in bytes that are written over when it returns. False reads no more
   * until the socket is resumed.
   */
  readonly read?: (bytes: Buffer) => boolean;
}

/** @throws what connecting failed with; `ETIMEDOUT` when it took too long */
export function connectGuest(
  { address, port }: GuestAddress,
  { limitMs, signal, halfOpen = false, read }: ConnectOptions,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const socket = new GuestSocket({ allowHalfOpen: halfOpen, ...(read && { onread: readingBy(read) }) });
    const settle = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      socket.off("error", fail);
      socket.off("connect", connected);
    };
    const fail = (error: Error): void => {
      settle();
      socket.on("error", () => undefined);
      socket.destroy();
      reject(error);
    };
    const abort = (): void => fail(signal?.reason as Error);
    const timer = setTimeout(() => fail(connectTimeout()), limitMs);
    const connected = (): void => {
      settle();
      // A guest that is gone without a word is noticed, also on a connection on which nothing moves.
      socket.setKeepAlive(true, 15_000);
      socket.setNoDelay(true);
      resolve(socket);
    };
    signal?.addEventListener("abort", abort, { once: true });
    socket.on("error", fail);
    socket.on("connect", connected);
    socket.connect({ host: address, port });
  });
}

function readingBy(read: (bytes: Buffer) => boolean) {
  readBuffer ??= Buffer.allocUnsafeSlow(readBytes);
  const buffer = readBuffer;
  return { buffer, callback: (length: number) => read(buffer.subarray(0, length)) };
}
