/** Lines of JSON from a stream of bytes, one at a time: the source is read only as fast as lines are taken. */
import { HearthError } from "@hearth/errors";

export const maxLineBytes = 8 * 1024 * 1024;
const newline = 0x0a;

/** @throws HearthError `payload_too_large` for an endless line, `internal` for a line that is not JSON */
export async function* readJsonLines(source: AsyncIterable<Uint8Array>): AsyncGenerator<unknown> {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  for await (const chunk of source) {
    let from = 0;
    for (;;) {
      const at = chunk.indexOf(newline, from);
      if (at < 0) break;
      held.push(chunk.subarray(from, at));
      yield* parseLine(held);
      held = [];
      heldBytes = 0;
      from = at + 1;
    }
    if (from < chunk.length) {
      held.push(chunk.subarray(from));
      heldBytes += chunk.length - from;
      if (heldBytes > maxLineBytes) throw new HearthError("payload_too_large");
    }
  }
  yield* parseLine(held);
}

function* parseLine(parts: readonly Uint8Array[]): Generator<unknown> {
  const text = Buffer.concat(parts).toString("utf8").trim();
  if (text === "") return;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new HearthError("internal", { message: "A line of the stream is not JSON; try again.", cause });
  }
  yield value;
}

/**
 * Lines of which one may be `{"kind":"error","error":{…}}`: a stream that began well can only fail in its body.
 * A break of the connection becomes a HearthError as well.
 */
export async function* readMessages<T>(
  source: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): AsyncGenerator<T> {
  try {
    for await (const value of readJsonLines(source)) {
      const message = value as { kind?: unknown; error?: object };
      if (message?.kind === "error") throw HearthError.fromWire(message.error ?? {});
      yield value as T;
    }
  } catch (cause) {
    if (cause instanceof HearthError) throw cause;
    if (signal?.aborted === true) throw new HearthError("cancelled", { cause });
    throw new HearthError("unavailable", {
      message: "The connection to the API broke in the middle of a stream; try again.",
      cause,
    });
  }
}
