/**
 * A program in a machine, with its streams, over one WebSocket.
 *
 * Nothing is buffered without a bound: while a reader of stdout or stderr is behind, the socket is not read, and
 * the program stops when the buffers between are full; a write to stdin is done when the socket took it. As with
 * a child process, whoever reads only one of the two outputs must discard the other (`stderr.resume()`), because
 * both come over the same socket.
 */
import { Readable, Writable } from "node:stream";
import { HearthError } from "@hearth/errors";
import type { ExecStatus } from "@hearth/machine";
import type { RawData, WebSocket } from "ws";
import { type ClientFrame, decodeServerFrame, encodeClientFrame } from "./exec-codec.ts";

export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

export interface ExecSession extends AsyncDisposable {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** How the program ended; rejects when the connection ended before that was known. */
  readonly exit: Promise<ExecStatus>;
  resize(size: TerminalSize): void;
  /** By number, 1 to 64. */
  signal(signal: number): void;
  /** Leaves; the server ends a program that was started by this session. */
  close(): void;
}

const sentFrameBytes = 64 * 1024;
const bufferBytes = 256 * 1024;
const pingMs = 20_000;

export class WebSocketSession implements ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exit: Promise<ExecStatus>;
  readonly #socket: WebSocket;
  readonly #behind = new Set<Readable>();
  readonly #ended = new Set<Readable>();
  readonly #ping: NodeJS.Timeout;
  #resolveExit: (status: ExecStatus) => void = () => undefined;
  #rejectExit: (error: HearthError) => void = () => undefined;
  #over = false;
  #heard = true;

  /** The socket is open and its start request was sent. */
  constructor(socket: WebSocket) {
    this.#socket = socket;
    this.stdin = this.#input();
    this.stdout = this.#output();
    this.stderr = this.#output();
    this.exit = new Promise((resolve, reject) => {
      this.#resolveExit = resolve;
      this.#rejectExit = reject;
    });
    // Whoever asks for it gets the rejection; a session that nobody asks must not end the process.
    this.exit.catch(() => undefined);
    socket.on("message", (data, isBinary) => this.#receive(data, isBinary));
    socket.on("pong", () => {
      this.#heard = true;
    });
    socket.once("error", (cause) => this.#break(cause));
    socket.once("close", (_code, reason) => this.#break(undefined, refusal(reason.toString())));
    this.#ping = setInterval(() => this.#probe(), pingMs).unref();
  }

  resize({ cols, rows }: TerminalSize): void {
    this.#sendControl({ channel: "control", control: { kind: "resize", cols, rows } });
  }

  signal(signal: number): void {
    this.#sendControl({ channel: "control", control: { kind: "signal", signal } });
  }

  close(): void {
    this.#break(undefined, new HearthError("cancelled", { message: "The session was closed." }));
    this.#socket.terminate();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #sendControl(frame: ClientFrame): void {
    if (!this.#over) this.#socket.send(encodeClientFrame(frame), () => undefined);
  }

  #input(): Writable {
    const send = (frame: ClientFrame): Promise<void> =>
      new Promise((resolve, reject) => {
        this.#socket.send(encodeClientFrame(frame), (error) => (error ? reject(error) : resolve()));
      });
    const stdin = new Writable({
      highWaterMark: bufferBytes,
      write: (chunk: Buffer, _encoding, done) => {
        const pieces = async (): Promise<void> => {
          for (let from = 0; from < chunk.length && !this.#over; from += sentFrameBytes) {
            await send({ channel: "stdin", data: chunk.subarray(from, from + sentFrameBytes) });
          }
        };
        // A program that ended reads no more; its exit says so, not the write.
        pieces().then(
          () => done(),
          () => done(),
        );
      },
      final: (done) => {
        if (this.#over) done();
        else
          send({ channel: "close", closes: "stdin" }).then(
            () => done(),
            () => done(),
          );
      },
    });
    stdin.on("error", () => undefined);
    return stdin;
  }

  #output(): Readable {
    const caughtUp = (stream: Readable): void => {
      this.#behind.delete(stream);
      if (this.#behind.size > 0 || !this.#socket.isPaused) return;
      this.#heard = true;
      this.#socket.resume();
    };
    const stream: Readable = new Readable({
      highWaterMark: bufferBytes,
      read: () => caughtUp(stream),
      destroy: (error, done) => {
        caughtUp(stream);
        done(error);
      },
    });
    stream.on("error", () => undefined);
    return stream;
  }

  #receive(data: RawData, isBinary: boolean): void {
    this.#heard = true;
    if (this.#over) return;
    if (!isBinary) {
      // The only text a server sends is a refusal of the start request.
      this.#break(undefined, refusal(String(data)));
      this.#socket.close();
      return;
    }
    let frame: ReturnType<typeof decodeServerFrame>;
    try {
      frame = decodeServerFrame(data as Buffer);
    } catch (error) {
      this.#break(undefined, HearthError.from(error));
      this.#socket.terminate();
      return;
    }
    if (frame.channel === "status") this.#finish(frame.status);
    else if (frame.channel === "close") this.#closeChannel(frame.closes);
    else if (frame.channel === "stdout" || frame.channel === "stderr") {
      this.#take(this[frame.channel], frame.data);
    }
  }

  #take(stream: Readable, data: Uint8Array): void {
    if (stream.destroyed || this.#ended.has(stream) || data.length === 0) return;
    if (stream.push(data)) return;
    this.#behind.add(stream);
    this.#socket.pause();
  }

  #closeChannel(channel: "stdin" | "stdout" | "stderr"): void {
    if (channel === "stdin") this.stdin.destroy();
    else this.#end(this[channel]);
  }

  #end(stream: Readable): void {
    if (stream.destroyed || this.#ended.has(stream)) return;
    this.#ended.add(stream);
    stream.push(null);
  }

  #finish(status: ExecStatus): void {
    this.#leave();
    this.#end(this.stdout);
    this.#end(this.stderr);
    this.#resolveExit(status);
    this.#socket.close(1000);
  }

  #break(cause?: unknown, error?: HearthError): void {
    if (this.#over) return;
    this.#leave();
    const broken =
      error ??
      new HearthError("guest_channel_broken", {
        message: "The connection ended before it was known how the program ends; try again.",
        cause,
      });
    this.stdout.destroy(broken);
    this.stderr.destroy(broken);
    this.#rejectExit(broken);
  }

  #leave(): void {
    this.#over = true;
    clearInterval(this.#ping);
    this.stdin.destroy();
  }

  /** A peer that vanished without closing answers no ping; its answer is not heard while nothing is read. */
  #probe(): void {
    if (!this.#heard && !this.#socket.isPaused) {
      this.#socket.terminate();
      return;
    }
    this.#heard = false;
    this.#socket.ping();
  }
}

/** Undefined for a text that names no error. */
function refusal(text: string): HearthError | undefined {
  try {
    const body = JSON.parse(text) as { error?: unknown };
    const inner = typeof body.error === "object" && body.error !== null ? body.error : body;
    return HearthError.fromWire(inner);
  } catch {
    return undefined;
  }
}
