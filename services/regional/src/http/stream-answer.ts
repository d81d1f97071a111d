/**
 * A bus stream as the answer to a request. What fails before the first message is an ordinary error; after it,
 * lines end with `{"kind":"error"}` and bytes end with a broken connection, so that no half is taken for a whole.
 * The stream is read only as fast as the client takes it, and ends when the client leaves.
 */
import { pipeline } from "node:stream/promises";
import type { BusStream } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { FastifyReply, FastifyRequest } from "fastify";
import { closedSignal } from "./closed-signal.ts";
import { requestIdHeader } from "./http-server.ts";

export interface StreamForm {
  readonly kind: "lines" | "bytes";
  /** How long the answer is held back for a first message that may be an error. */
  readonly firstWithinMs: number;
}

export interface Exchange {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** Aborts when the caller's token is over; a stream of lines says so. */
  readonly ended: AbortSignal;
}

const newline = new Uint8Array([0x0a]);
const types = { lines: "application/x-ndjson", bytes: "application/octet-stream" } as const;

/** The reply is sent when this resolves. @throws what the stream failed with before it had said anything */
export async function answerWithStream(
  { request, reply, ended }: Exchange,
  stream: BusStream,
  form: StreamForm,
): Promise<void> {
  const left = closedSignal(request.raw, reply.raw);
  const leave = (): void => stream.fail(left.reason);
  left.addEventListener("abort", leave, { once: true });
  if (left.aborted) leave();
  ended.addEventListener("abort", () => stream.fail(ended.reason), { once: true });
  const first = await firstMessage(stream, form.firstWithinMs);
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": types[form.kind], [requestIdHeader]: request.id });
  reply.raw.flushHeaders();
  try {
    await pipeline(messages(stream, first, form.kind), reply.raw);
  } catch (thrown) {
    // The status is out, so all that can be done is to end in a way that cannot be taken for the end.
    request.log.info({ err: thrown }, "a streamed answer broke");
    stream.fail(thrown);
    reply.raw.destroy();
  }
}

type First = { readonly message: Uint8Array | undefined } | "not yet";

async function firstMessage(stream: BusStream, limitMs: number): Promise<First> {
  const limit = AbortSignal.timeout(limitMs);
  try {
    return { message: await stream.read({ signal: limit }) };
  } catch (error) {
    if (limit.aborted && HearthError.from(error).code === "cancelled") return "not yet";
    throw error;
  }
}

async function* messages(
  stream: BusStream,
  first: First,
  kind: StreamForm["kind"],
): AsyncGenerator<Uint8Array> {
  try {
    let message = first === "not yet" ? await stream.read() : first.message;
    while (message !== undefined) {
      yield message;
      if (kind === "lines") yield newline;
      message = await stream.read();
    }
    await stream.end();
  } catch (thrown) {
    if (kind === "bytes") throw thrown;
    yield Buffer.from(`${JSON.stringify({ kind: "error", error: HearthError.from(thrown).toWire() })}\n`);
  }
}
