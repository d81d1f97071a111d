/** Programs of the fake worker's machines: what exec and attach would do, behind the contract of the bus stream. */
import { createHash } from "node:crypto";
import type { BusStream, StreamHandler } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { decodeExecFrame, type ExecFrame, type ExecStatus, encodeExecFrame } from "@hearth/machine";

export const pieceBytes = 64 * 1024;

export class FakePrograms {
  /** Every request that opened a stream, in order. */
  readonly started: { readonly command: readonly string[]; readonly stdin?: boolean }[] = [];
  /** Control frames that came. */
  readonly controls: object[] = [];
  /** Bytes that programs have written, and have read. */
  writtenBytes = 0;
  readBytes = 0;
  /** How each session ended: undefined when both sides ended it, else the code of the error. */
  readonly ended: (string | undefined)[] = [];
  /** Programs that hold still wait for this. */
  #letGo: () => void = () => undefined;
  readonly held = new Promise<void>((resolve) => {
    this.#letGo = resolve;
  });

  letGo(): void {
    this.#letGo();
  }

  readonly handlers: Readonly<Record<string, StreamHandler>> = {
    exec: (stream, payload) => this.#run(stream, payload as FakePrograms["started"][number]),
    attach: (stream, payload) =>
      this.#run(stream, { ...(payload as { stdin?: boolean }), command: ["echo", "attached"] }),
  };

  async #run(stream: BusStream, request: FakePrograms["started"][number]): Promise<void> {
    this.started.push(request);
    void stream.closed.then((error) => this.ended.push(error?.code));
    const [program = "", word = ""] = request.command;
    const send = (frame: ExecFrame): Promise<void> => stream.write(encodeExecFrame(frame));
    const exit = (code: number, signal = 0): Promise<void> =>
      send({ channel: "status", status: { kind: "exited", exit_code: code, exit_signal: signal } });
    switch (program) {
      case "echo":
        await send({ channel: "stdout", data: Buffer.from(`${word}\n`) });
        await send({ channel: "stderr", data: Buffer.from("to the side\n") });
        return exit(7);
      case "sha256":
        return this.#hash(stream, send, exit);
      case "zeros":
        return this.#zeros(Number(word), send, exit);
      case "deaf":
        await this.held;
        return exit(0);
      case "controlled":
        return this.#obey(stream, exit);
      case "refused":
        throw new HearthError("vmm_not_running");
      case "breaks":
        await send({ channel: "stdout", data: Buffer.from("half") });
        throw new HearthError("guest_unreachable");
      case "mute":
        return;
      default: {
        const status: ExecStatus = { kind: "failed", code: "entrypoint_not_found", message: `no ${program}` };
        return send({ channel: "status", status });
      }
    }
  }

  async #hash(stream: BusStream, send: (frame: ExecFrame) => Promise<void>, exit: Exit): Promise<void> {
    const hash = createHash("sha256");
    for await (const message of stream) {
      const frame = decodeExecFrame(message);
      if (frame.channel === "close") break;
      if (frame.channel !== "stdin") continue;
      this.readBytes += frame.data.length;
      hash.update(frame.data);
    }
    await send({ channel: "stdout", data: Buffer.from(hash.digest("hex")) });
    await exit(0);
  }

  async #zeros(bytes: number, send: (frame: ExecFrame) => Promise<void>, exit: Exit): Promise<void> {
    const piece = Buffer.alloc(pieceBytes);
    for (let left = bytes; left > 0; left -= pieceBytes) {
      const data = piece.subarray(0, Math.min(left, pieceBytes));
      await send({ channel: "stdout", data });
      this.writtenBytes += data.length;
    }
    await exit(0);
  }

  async #obey(stream: BusStream, exit: Exit): Promise<void> {
    for await (const message of stream) {
      const frame = decodeExecFrame(message);
      if (frame.channel !== "control") continue;
      this.controls.push(frame.control);
      if (frame.control.kind === "signal") return exit(0, frame.control.signal);
    }
  }
}

type Exit = (code: number, signal?: number) => Promise<void>;
