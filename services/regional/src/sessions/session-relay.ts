/**
 * One session of exec or attach after its start: frames between a WebSocket and a bus stream, as they are.
 *
 * Each direction waits for its slower side. Towards the node the socket is not read while the node's window is
 * full; towards the client the next frame is taken from the bus when the kernel took the last one. So a session
 * holds at most the window of its bus stream, and what one read of the socket brought.
 */
import type { BusStream } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { encodeExecFrame, execChannel } from "@hearth/machine";
import type { RawData, WebSocket } from "ws";
import { wireError } from "../http/wire-error.ts";

/** Frames that the socket has given and the node's window has not taken; above it the socket is not read. */
export const heldLimitBytes = 256 * 1024;
/** Empty frames cost memory too. */
const frameOverheadBytes = 64;

export const closeCode = { normal: 1000, goingAway: 1001, refused: 1008 } as const;

export interface SessionEnd {
  readonly by: "status" | "client" | "refusal" | "failure";
  readonly error?: HearthError;
}

export class SessionRelay {
  readonly #socket: WebSocket;
  /** Frames that came before the stream was there. */
  #early: Uint8Array[] | undefined = [];
  #stream: BusStream | undefined;
  #heldBytes = 0;
  #spoke = false;
  #end: SessionEnd | undefined;

  /** The socket is open, and its start message was taken from it. */
  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data, isBinary) => this.#take(data, isBinary));
    socket.once("close", () => this.#finish({ by: "client" }));
    if (socket.readyState !== socket.OPEN) this.#finish({ by: "client" });
  }

  /** Resolves when the session is over; the socket is closing then. Never rejects. */
  async run(open: () => Promise<BusStream>): Promise<SessionEnd> {
    try {
      const stream = await open();
      if (this.#end !== undefined) stream.fail(new HearthError("cancelled"));
      else this.#forward(stream);
      await this.#deliver(stream);
    } catch (thrown) {
      this.fail(HearthError.from(thrown));
    }
    return this.#end ?? { by: "client" };
  }

  /** Ends both sides. Before the node has said anything this is a refusal, and later the program's status. */
  fail(error: HearthError, code: number = closeCode.refused): void {
    if (this.#end !== undefined) return;
    const { code: kind, message } = error;
    const last = this.#spoke
      ? encodeExecFrame({ channel: "status", status: { kind: "failed", code: kind, message } })
      : JSON.stringify(wireError(error));
    const by = this.#spoke ? "failure" : "refusal";
    // The socket closes by itself when a client does not take its last frame.
    this.#socket.send(last, () => undefined);
    this.#finish({ by, error });
    this.#socket.close(code);
  }

  #forward(stream: BusStream): void {
    this.#stream = stream;
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const frame of early) this.#write(stream, frame);
    this.#readOn();
  }

  async #deliver(stream: BusStream): Promise<void> {
    for (;;) {
      const frame = await stream.read();
      if (frame === undefined) throw new HearthError("guest_channel_broken");
      this.#spoke = true;
      await this.#send(frame);
      if (this.#end !== undefined) return;
      if (frame[0] !== execChannel.status) continue;
      this.#finish({ by: "status" });
      this.#socket.close(closeCode.normal);
      return;
    }
  }

  /** Resolves when the kernel has it, or when nobody is there to have it. */
  #send(frame: Uint8Array): Promise<void> {
    return new Promise((resolve) => this.#socket.send(frame, () => resolve()));
  }

  #take(data: RawData, isBinary: boolean): void {
    if (this.#end !== undefined) return;
    if (!isBinary) {
      this.fail(
        new HearthError("invalid_argument", {
          message: "Only the first message of a session is text; what follows are binary frames.",
          details: { field: "frame" },
        }),
      );
      return;
    }
    const frame = data as Buffer;
    this.#heldBytes += frame.length + frameOverheadBytes;
    if (this.#stream !== undefined) this.#write(this.#stream, frame);
    else this.#early?.push(frame);
    if (this.#stream === undefined || this.#heldBytes > heldLimitBytes) this.#socket.pause();
  }

  #write(stream: BusStream, frame: Uint8Array): void {
    stream.write(frame).then(
      () => {
        this.#heldBytes -= frame.length + frameOverheadBytes;
        this.#readOn();
      },
      // What broke the stream reaches whoever reads it; a frame too large is the client's, and breaks only this.
      (error: unknown) => {
        if (HearthError.from(error).code === "payload_too_large") this.fail(HearthError.from(error));
      },
    );
  }

  #readOn(): void {
    if (this.#socket.isPaused && this.#heldBytes <= heldLimitBytes) this.#socket.resume();
  }

  #finish(end: SessionEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#early = undefined;
    // The status is the last that a node says, so nothing is lost; a node that is not done ends the program.
    this.#stream?.fail(end.error ?? new HearthError("cancelled"));
    // The answer to a close arrives only where somebody reads.
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.resume();
  }
}
