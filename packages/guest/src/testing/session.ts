/** A program's input and output, driven step by step: a test waits for words, never for time. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GuestClient } from "../../mod.ts";
import type {
  Attached,
  AttachResponse,
  AttachStartSchema,
  ExecResponse,
  ExecStartSchema,
  Exit,
} from "../gen/hearth/guest/v1/guest_pb.js";

/** A test that waits longer has failed, and says what it had read. */
const limitMs = 30_000;

type Input =
  | { case: "stdin"; value: Uint8Array<ArrayBuffer> }
  | { case: "closeStdin"; value: Record<never, never> }
  | { case: "signal"; value: number }
  | { case: "resize"; value: { rows: number; cols: number } };
type Replies = AsyncIterable<ExecResponse | AttachResponse>;
type Start = (inputs: AsyncIterable<Input>, signal: AbortSignal) => Replies;

export class Session implements AsyncDisposable {
  pid = 0;
  attached: Attached | undefined;
  stdout = "";
  stderr = "";
  /** Pieces of output that this caller of attach was too slow for. */
  lost = 0n;
  exit: Exit | undefined;
  readonly #inputs: Input[] = [];
  #news = Promise.withResolvers<void>();
  readonly #left = new AbortController();
  readonly #replies: AsyncIterator<ExecResponse | AttachResponse>;

  constructor(start: Start) {
    this.#replies = start(this.#send(), this.#left.signal)[Symbol.asyncIterator]();
  }

  static exec(
    client: GuestClient,
    script: string,
    options: MessageInitShape<typeof ExecStartSchema> = {},
  ): Session {
    const value = { argv: ["/bin/sh", "-c", script], ...options };
    return new Session((inputs, signal) => {
      async function* requests() {
        yield { request: { case: "start" as const, value } };
        for await (const request of inputs) yield { request };
      }
      return client.exec(requests(), { signal });
    });
  }

  static attach(client: GuestClient, options: MessageInitShape<typeof AttachStartSchema> = {}): Session {
    return new Session((inputs, signal) => {
      async function* requests() {
        yield { request: { case: "start" as const, value: options } };
        for await (const request of inputs) yield { request };
      }
      return client.attach(requests(), { signal });
    });
  }

  /** Both outputs together. */
  get output(): string {
    return this.stdout + this.stderr;
  }

  send(input: Input): void {
    this.#inputs.push(input);
    this.#news.resolve();
  }

  type(text: string): void {
    this.send({ case: "stdin", value: Buffer.from(text) });
  }

  signal(number: number): void {
    this.send({ case: "signal", value: number });
  }

  closeStdin(): void {
    this.send({ case: "closeStdin", value: {} });
  }

  async started(): Promise<number> {
    await this.#readUntil(() => this.pid !== 0, "the start");
    return this.pid;
  }

  async says(text: string): Promise<void> {
    await this.#readUntil(() => this.output.includes(text), JSON.stringify(text));
  }

  async ended(): Promise<Exit> {
    await this.#readUntil(() => this.exit !== undefined, "the exit");
    if (this.exit === undefined) throw new Error("no exit was reported");
    return this.exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#left.abort();
    this.#news.resolve();
    await this.#replies.return?.().catch(() => undefined);
  }

  async #readUntil(done: () => boolean, what: string): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      reject(new Error(`${what} did not come in ${limitMs} ms, but ${JSON.stringify(this.output)}`));
    }, limitMs);
    try {
      while (!done()) {
        const { value, done: over } = await Promise.race([this.#replies.next(), late]);
        if (over) throw new Error(`the stream ended before ${what}: ${JSON.stringify(this.output)}`);
        this.#take(value);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take({ response }: ExecResponse | AttachResponse): void {
    switch (response.case) {
      case "started":
        this.pid = response.value.pid;
        break;
      case "attached":
        this.attached = response.value;
        this.pid = response.value.pid;
        break;
      case "stdout":
      case "stderr":
        this[response.case] += Buffer.from(response.value).toString();
        break;
      case "lost":
        this.lost += response.value;
        break;
      case "exited":
        this.exit = response.value;
        break;
    }
  }

  async *#send(): AsyncGenerator<Input> {
    while (!this.#left.signal.aborted) {
      const next = this.#inputs.shift();
      if (next !== undefined) {
        yield next;
        continue;
      }
      await this.#news.promise;
      this.#news = Promise.withResolvers();
    }
  }
}
