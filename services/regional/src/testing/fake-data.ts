/** Logs and files of the fake worker's machines, behind the contract of the bus stream. */
import { createHash } from "node:crypto";
import type { BusStream, StreamHandler } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { LogEntry } from "@hearth/machine";

const pieceBytes = 64 * 1024;

/** How the stream of one request went. */
export interface FakeTransfer {
  readonly request: Readonly<Record<string, unknown>>;
  writtenBytes: number;
  readBytes: number;
  readonly hash: ReturnType<typeof createHash>;
  /** Once it is over: `done` after both sides' end, else the code of the error. */
  ended: string | undefined;
}

export const logLine = (seq: number): LogEntry => ({
  seq,
  timestamp: "2026-01-01T00:00:00.000Z",
  stream: "stdout",
  data: Buffer.from(`line ${seq}\n`).toString("base64"),
});

export class FakeData {
  readonly transfers: FakeTransfer[] = [];
  /** Lets what is held go on: the input of `/held`, and the end of followed logs. */
  letGo: () => void = () => undefined;
  #held = Promise.resolve();

  get last(): FakeTransfer | undefined {
    return this.transfers.at(-1);
  }

  hold(): void {
    this.#held = new Promise((resolve) => {
      this.letGo = resolve;
    });
  }

  readonly handlers: Readonly<Record<string, StreamHandler>> = {
    /** Three lines; with follow a fourth when it is let go. A tail of 0 follows; a tail of 13 breaks. */
    logs: async (stream, payload) => {
      const transfer = this.#begin(stream, payload);
      const { tail = 3, follow } = transfer.request as { tail?: number; follow?: boolean };
      if (tail === 14) throw new HearthError("vmm_not_running");
      const lines = [0, 1, 2].slice(3 - Math.min(tail, 3)).map(logLine);
      for (const line of lines) await this.#write(stream, transfer, Buffer.from(JSON.stringify(line)));
      if (tail === 13) throw new HearthError("guest_channel_broken");
      if (follow !== true) return;
      await Promise.race([this.#held, stream.closed]);
      await this.#write(stream, transfer, Buffer.from(JSON.stringify(logLine(3))));
    },
    /** `/zeros/<n>` has n bytes, `/broken` breaks in the middle. */
    "file-read": async (stream, payload) => {
      const transfer = this.#begin(stream, payload);
      const path = String(transfer.request.path);
      if (path === "/missing") throw new HearthError("guest_path_not_found");
      let left = Number(/^\/zeros\/(\d+)$/.exec(path)?.[1] ?? pieceBytes);
      for (; left > 0; left -= pieceBytes)
        await this.#write(stream, transfer, Buffer.alloc(Math.min(left, pieceBytes)));
      if (path === "/broken") throw new HearthError("guest_channel_broken");
    },
    /** `/held` is not read until it is let go, `/full` has room for little. */
    "file-write": async (stream, payload) => {
      const transfer = this.#begin(stream, payload);
      const path = String(transfer.request.path);
      if (path === "/held") await Promise.race([this.#held, stream.closed]);
      for await (const bytes of stream) {
        transfer.readBytes += bytes.length;
        transfer.hash.update(bytes);
        if (path === "/full" && transfer.readBytes > pieceBytes) throw new HearthError("disk_full");
      }
    },
  };

  #begin(stream: BusStream, payload: unknown): FakeTransfer {
    const transfer: FakeTransfer = {
      request: payload as FakeTransfer["request"],
      writtenBytes: 0,
      readBytes: 0,
      hash: createHash("sha256"),
      ended: undefined,
    };
    this.transfers.push(transfer);
    void stream.closed.then((error) => {
      transfer.ended = error?.code ?? "done";
    });
    return transfer;
  }

  async #write(stream: BusStream, transfer: FakeTransfer, bytes: Uint8Array): Promise<void> {
    await stream.write(bytes);
    transfer.writtenBytes += bytes.length;
  }
}
