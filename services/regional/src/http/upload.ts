/** The body of a request into a bus stream: as fast as the node takes it, and never more than a chunk in memory. */
import type { IncomingMessage } from "node:http";
import type { BusStream } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";

const chunkBytes = 256 * 1024;
/** For the client to send, and for the node to take. While the node takes nothing, a client that left is not seen. */
const silenceLimitMs = 60_000;
/** A client that was refused is given this long to stop sending, so that it reads the answer. */
const drainLimitMs = 5_000;

/** Ends the stream's own side when the body is through. @throws what the stream failed with, `cancelled` */
export async function upload(body: IncomingMessage, stream: BusStream): Promise<void> {
  let isNodesTurn = false;
  const silence = setTimeout(() => {
    const what = isNodesTurn ? "The node took no more of the body." : "The body came too slowly.";
    const error = new HearthError("deadline_exceeded", { message: `${what} Try again.` });
    if (isNodesTurn) stream.fail(error);
    else body.destroy(error);
  }, silenceLimitMs);
  const turn = (isNodes: boolean): void => {
    isNodesTurn = isNodes;
    silence.refresh();
  };
  try {
    // Leaving the loop must not destroy the request: its connection carries the answer.
    for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      turn(true);
      for (let from = 0; from < chunk.length; from += chunkBytes)
        await stream.write(chunk.subarray(from, from + chunkBytes));
      turn(false);
    }
    await stream.end();
  } catch (thrown) {
    const error = thrown instanceof HearthError ? thrown : new HearthError("cancelled", { cause: thrown });
    stream.fail(error);
    discard(body);
    throw error;
  } finally {
    clearTimeout(silence);
  }
}

function discard(body: IncomingMessage): void {
  if (body.complete || body.destroyed) return;
  const limit = setTimeout(() => body.destroy(), drainLimitMs).unref();
  body.once("close", () => clearTimeout(limit));
  body.resume();
}
