/** Programs of the fake worker's machines: what exec and attach would do, behind the contract of the bus stream. */
import { createHash } from "node:crypto";
import type { BusStream, StreamHandler } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { decodeExecFrame, type ExecFrame, encodeExecFrame } from "@hearth/machine";

export const pieceBytes = 64 * 1024;

interface Request {
  readonly command: readonly string[];
  readonly [field: string]: unknown;
}

export class FakeRun {
  readonly request: Request;
  readonly controls: object[] = [];
  writtenBytes = 0;
  readBytes = 0;
  /** Once it is over: `done` after both sides' end, else the code of the error. */
  ended: string | undefined;
  /** Lets a program go on that waits for it. */
  letGo: () => void = () => undefined;
  readonly #stream: BusStream;
  readonly #held = new Promise<void>((resolve) => {
    this.letGo = resolve;
  });

  constructor(stream: BusStream, request: Request) {
    this.#stream = stream;
    this.request = request;
    void stream.closed.then((error) => {
      this.ended = error?.code ?? "done";
    });
  }

  async go(): Promise<void> {
    const [program = "", word = ""] = this.request.command;
    switch (program) {
      case "echo":
        await this.#write("stdout", Buffer.from(`${word}\n`));
        await this.#write("stderr", Buffer.from("to the side\n"));
        return this.#exit(7);
      case "sha256":
        if (word === "later") await this.#held;
        return this.#hash();
      case "zeros":
        return this.#zeros(Number(word));
      case "true":
        return this.#exit(0);
      case "waits":
        await Promise.race([this.#held, this.#stream.closed]);
        return this.#exit(0);
      case "obeys":
        return this.#obey();
      case "refused":
        throw new HearthError("vmm_not_running");
      case "breaks":
        await this.#write("stdout", Buffer.from("half"));
        throw new HearthError("guest_unreachable");
      case "mute":
        return;
      default: {
        const status = { kind: "failed", code: "entrypoint_not_found", message: `no ${program}` } as const;
        return this.#send({ channel: "status", status });
      }
    }
  }

  #send(frame: ExecFrame): Promise<void> {
    return this.#stream.write(encodeExecFrame(frame));
  }

  async #write(channel: "stdout" | "stderr", data: Uint8Array): Promise<void> {
    await this.#send({ channel, data });
    this.writtenBytes += data.length;
  }

  #exit(exit_code: number, exit_signal = 0): Promise<void> {
    return this.#send({ channel: "status", status: { kind: "exited", exit_code, exit_signal } });
  }

  async #hash(): Promise<void> {
    const hash = createHash("sha256");
    for await (const message of this.#stream) {
      const frame = decodeExecFrame(message);
      if (frame.channel === "close") break;
      if (frame.channel !== "stdin") continue;
      this.readBytes += frame.data.length;
      hash.update(frame.data);
    }
    await this.#write("stdout", Buffer.from(hash.digest("hex")));
    await this.#exit(0);
  }

  async #zeros(bytes: number): Promise<void> {
    const piece = Buffer.alloc(pieceBytes);
    for (let left = bytes; left > 0; left -= pieceBytes)
      await this.#write("stdout", piece.subarray(0, Math.min(left, pieceBytes)));
    await this.#exit(0);
  }

  async #obey(): Promise<void> {
    for await (const message of this.#stream) {
      const frame = decodeExecFrame(message);
      if (frame.channel !== "control") continue;
      this.controls.push(frame.control);
      if (frame.control.kind === "signal") return this.#exit(0, frame.control.signal);
    }
  }
}

export class FakePrograms {
  /** In the order of their start. */
  readonly runs: FakeRun[] = [];

  get last(): FakeRun | undefined {
    return this.runs.at(-1);
  }

  readonly handlers: Readonly<Record<string, StreamHandler>> = {
    exec: (stream, payload) => this.#run(stream, payload as Request),
    attach: (stream, payload) => this.#run(stream, { ...(payload as object), command: ["echo", "attached"] }),
  };

  #run(stream: BusStream, request: Request): Promise<void> {
    const run = new FakeRun(stream, request);
    this.runs.push(run);
    return run.go();
  }
}
