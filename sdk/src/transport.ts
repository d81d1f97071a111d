/**
 * One HTTP call to the API. It uses node:http and not fetch: fetch ends a body that is silent for five minutes,
 * which a followed log may be, and starts slower, which a command line feels. Bodies are Node streams in both
 * directions, so the peer feels it when one side is slow.
 */
import { type IncomingMessage, request as requestPlain } from "node:http";
import { request as requestTls } from "node:https";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { HearthError } from "@hearth/errors";
import { readApiError } from "./api-error.ts";

export type QueryValue = string | number | boolean | undefined | readonly string[];

export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Begins with a slash; below the API's address. */
  readonly path: string;
  readonly query?: Readonly<Record<string, QueryValue>>;
  /** A value to send as JSON. */
  readonly json?: unknown;
  /** Bytes to send as they come. */
  readonly bytes?: Readable;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** Until the answer begins; a stream may then last. */
  readonly answerLimitMs?: number;
}

const defaultAnswerLimitMs = 120_000;
const maxJsonBytes = 64 * 1024 * 1024;

export interface TransportOptions {
  /** Such as http://127.0.0.1:4280; a path in it is kept. */
  readonly apiUrl: string;
  readonly token?: string | undefined;
  /** Told with each answer to a read how old what it says may be; infinite when the API cannot say. */
  readonly onAge?: (ageMs: number) => void;
}

export class Transport {
  readonly #base: URL;
  readonly #token: string | undefined;
  readonly #onAge: TransportOptions["onAge"];

  /** @throws HearthError `invalid_argument` when the address is no http or https URL */
  constructor({ apiUrl, token, onAge }: TransportOptions) {
    if (!URL.canParse(apiUrl) || !/^https?:$/.test(new URL(apiUrl).protocol)) {
      throw new HearthError("invalid_argument", {
        message: `The address of the API, ${JSON.stringify(apiUrl)}, is no URL; write it as http://host:port.`,
        details: { field: "apiUrl" },
      });
    }
    this.#base = new URL(apiUrl);
    this.#token = token;
    this.#onAge = onAge;
  }

  url(path: string, query: Call["query"] = {}): URL {
    const url = new URL(this.#base);
    url.pathname = url.pathname.replace(/\/+$/, "") + path;
    for (const [name, value] of Object.entries(query)) {
      const values = Array.isArray(value) ? value : [value];
      for (const one of values) if (one !== undefined) url.searchParams.append(name, String(one));
    }
    return url;
  }

  get authorization(): Record<string, string> {
    return this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` };
  }

  /** What to say when nothing answers at the address. */
  unreachable(cause: unknown): HearthError {
    const code = (cause as { code?: unknown } | undefined)?.code;
    const why = typeof code === "string" ? ` (${code})` : "";
    return new HearthError("unavailable", {
      message: `The API at ${this.#base.origin} does not answer${why}; check that it runs and that the address is right.`,
      details: { api_url: this.#base.origin },
      cause,
    });
  }

  /** The parsed answer; undefined when it is empty. @throws HearthError */
  async json<T>(call: Call): Promise<T> {
    const answer = await this.open(call);
    const chunks: Buffer[] = [];
    let size = 0;
    try {
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size > maxJsonBytes) throw new HearthError("payload_too_large");
        chunks.push(chunk);
      }
    } catch (cause) {
      throw this.#failure(cause, call.signal);
    }
    const text = Buffer.concat(chunks).toString("utf8");
    if (text.trim() === "") return undefined as T;
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      throw new HearthError("internal", {
        message: `What answered at ${this.#base.origin} is not the Hearth API; check the address.`,
        cause,
      });
    }
  }

  /** The answer with its body unread. @throws HearthError also for every status from 400 on */
  async open(call: Call): Promise<IncomingMessage> {
    let answer: IncomingMessage;
    try {
      answer = await this.#send(call);
    } catch (cause) {
      // The peer closed an idle connection just as it was taken from the pool; nothing was processed.
      const stale = (cause as { staleSocket?: boolean }).staleSocket === true && call.bytes === undefined;
      if (!stale) throw this.#failure(cause, call.signal);
      answer = await this.#send(call).catch((again: unknown) => {
        throw this.#failure(again, call.signal);
      });
    }
    const age = answer.headers["hearth-replica-age-ms"];
    if (typeof age === "string") this.#onAge?.(age === "unknown" ? Number.POSITIVE_INFINITY : Number(age));
    if ((answer.statusCode ?? 0) < 400) return answer;
    throw await readApiError(answer);
  }

  #failure(cause: unknown, signal: AbortSignal | undefined): HearthError {
    if (cause instanceof HearthError) return cause;
    if (signal?.aborted === true) return new HearthError("cancelled", { cause });
    return this.unreachable(cause);
  }

  #send(call: Call): Promise<IncomingMessage> {
    const url = this.url(call.path, call.query);
    const body = call.json === undefined ? undefined : Buffer.from(JSON.stringify(call.json));
    const headers: Record<string, string | number> = {
      accept: "application/json",
      ...this.authorization,
      ...call.headers,
    };
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      headers["content-length"] = body.length;
    } else if (call.bytes !== undefined) headers["content-type"] = "application/octet-stream";
    const start = url.protocol === "https:" ? requestTls : requestPlain;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const options = { method: call.method, headers };
    const request = start(url, call.signal === undefined ? options : { ...options, signal: call.signal });
    const limitMs = call.answerLimitMs ?? defaultAnswerLimitMs;
    const limit = setTimeout(() => {
      request.destroy(
        new HearthError("deadline_exceeded", {
          message: `The API at ${this.#base.origin} took longer than ${limitMs / 1000} s to answer; try again.`,
        }),
      );
    }, limitMs);
    request.once("response", (answer) => {
      clearTimeout(limit);
      resolve(answer);
    });
    request.on("error", (error: Error & { code?: string; staleSocket?: boolean }) => {
      clearTimeout(limit);
      if (request.reusedSocket && error.code === "ECONNRESET") error.staleSocket = true;
      reject(error);
    });
    if (call.bytes === undefined) request.end(body);
    // Fails also when the server answered before it read everything; then the answer counts, not the failure.
    else pipeline(call.bytes, request).catch(reject);
    return promise;
  }
}

/** Any source of bytes as a stream that is read only as fast as it is taken. */
export function toReadable(source: Readable | Uint8Array | string | AsyncIterable<Uint8Array>): Readable {
  if (source instanceof Readable) return source;
  if (typeof source === "string" || source instanceof Uint8Array) return Readable.from([Buffer.from(source)]);
  return Readable.from(source, { objectMode: false });
}
