/** Files of a guest as bytes of a stream, at the speed of the slower side. */
import { type BusStream, maxMessageBytes } from "@hearth/cluster";
import type { GuestClient } from "@hearth/guest";

type WriteRequest =
  Parameters<GuestClient["writeFile"]>[0] extends AsyncIterable<infer Request> ? Request : never;

/** The agent takes smaller messages than the bus does. */
const chunkBytes = 64 * 1024;

export async function readGuestFile(
  client: GuestClient,
  stream: BusStream,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  for await (const { data } of client.readFile({ path }, { signal })) {
    for (let at = 0; at < data.length; at += maxMessageBytes)
      await stream.write(data.subarray(at, at + maxMessageBytes), { signal });
  }
}

export async function writeGuestFile(
  client: GuestClient,
  stream: BusStream,
  target: { readonly path: string; readonly mode?: number },
  signal: AbortSignal,
): Promise<void> {
  await client.writeFile(writeRequests(stream, target, signal), { signal });
}

async function* writeRequests(
  stream: BusStream,
  { path, mode = 0 }: { readonly path: string; readonly mode?: number },
  signal: AbortSignal,
): AsyncGenerator<WriteRequest> {
  yield { request: { case: "start", value: { path, mode, makeParents: true } } };
  for (;;) {
    // An error here ends the call as broken, and the agent throws away what it has.
    const message = await stream.read({ signal });
    if (message === undefined) return;
    for (let at = 0; at < message.length; at += chunkBytes)
      yield { request: { case: "data", value: message.subarray(at, at + chunkBytes) } };
  }
}
