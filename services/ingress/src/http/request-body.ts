/**
 * The body of a request on its way to a guest: read as fast as the guest takes it, counted, and kept while it is short
 * and no guest has answered, so that a guest that did not act on it can be followed by another.
 *
 * Each guest gets a stream of its own and not the request: whoever sends a stream destroys it, and the client's
 * connection would go with the request.
 */
import { PassThrough } from "node:stream";
import type { StreamedRequest } from "./refusal.ts";

export interface BodyOptions {
  readonly limitBytes: number;
  readonly keptBytes: number;
  /** Called once, when the body is longer than the limit. */
  readonly tooLong: () => void;
}

export class RequestBody {
  /** Of HTTP/1.1 without a length: only there trailers can follow. */
  readonly isChunked: boolean;
  readonly #request: StreamedRequest;
  readonly #options: BodyOptions;
  #kept: Buffer[] | undefined = [];
  #stream: PassThrough | undefined;
  #bytes = 0;
  #isCounted = false;

  constructor(request: StreamedRequest, options: BodyOptions) {
    this.#request = request;
    this.#options = options;
    this.isChunked = request.headers["content-length"] === undefined;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get canRepeat(): boolean {
    return this.#kept !== undefined;
  }

  /** From its beginning, for the next guest. */
  open(): PassThrough {
    this.close();
    // Not before there is a guest: what is listened to flows.
    if (!this.#isCounted) this.#count();
    const stream = new PassThrough();
    // Nobody else listens once it has been given up.
    stream.on("error", () => undefined);
    for (const chunk of this.#kept ?? []) stream.write(chunk);
    this.#stream = stream;
    if (this.#request.readableEnded) stream.end();
    else this.#request.pipe(stream);
    return stream;
  }

  #count(): void {
    this.#isCounted = true;
    const { limitBytes, keptBytes, tooLong } = this.#options;
    this.#request.on("data", (chunk: Buffer) => {
      const before = this.#bytes;
      this.#bytes += chunk.length;
      if (this.#bytes > keptBytes) this.#kept = undefined;
      else this.#kept?.push(chunk);
      if (this.#bytes > limitBytes && before <= limitBytes) tooLong();
    });
  }

  /** A guest has answered, so there will be no other. */
  forget(): void {
    this.#kept = undefined;
  }

  /** Nobody takes more of it. */
  close(): void {
    if (this.#stream !== undefined) this.#request.unpipe(this.#stream);
    this.#stream = undefined;
  }

  /** Name, value, name, value; known when the body has ended. */
  get rawTrailers(): readonly string[] {
    return this.#request.rawTrailers;
  }
}
