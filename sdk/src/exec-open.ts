/** Opens the WebSocket of a session. ws is loaded when the first session is wanted. */
import type { IncomingMessage } from "node:http";
import { HearthError } from "@hearth/errors";
import { readApiError } from "./api-error.ts";
import { maxFrameBytes } from "./exec-codec.ts";
import { type ExecSession, WebSocketSession } from "./exec-session.ts";
import type { Transport } from "./transport.ts";

export const execSubprotocol = "exec.hearth.v1";
const handshakeLimitMs = 60_000;
/** Pings pile up unread while a reader is slow, and all of them are read at once when it goes on. */
const manyPings = { maxPendingAutoPongs: 4096 };

export interface SessionOpening {
  readonly transport: Transport;
  readonly path: string;
  readonly start: object;
  readonly signal?: AbortSignal | undefined;
}

/** @throws HearthError when the server refuses, does not answer, or the signal aborts */
export async function openSession(opening: SessionOpening): Promise<ExecSession> {
  const { transport, start, signal } = opening;
  const { WebSocket } = await import("ws");
  if (signal?.aborted === true) throw new HearthError("cancelled");
  const url = transport.url(opening.path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url, execSubprotocol, {
    headers: transport.authorization,
    handshakeTimeout: handshakeLimitMs,
    perMessageDeflate: false,
    maxPayload: maxFrameBytes + 1,
    ...manyPings,
  });
  const { promise, resolve, reject } = Promise.withResolvers<ExecSession>();
  const abort = (): void => {
    reject(new HearthError("cancelled"));
    socket.terminate();
  };
  signal?.addEventListener("abort", abort, { once: true });
  const refused = async (_request: unknown, answer: IncomingMessage): Promise<void> => {
    reject(await readApiError(answer));
    // Listening to this event makes ending the request ours.
    socket.terminate();
  };
  const failed = (cause: Error): void => reject(transport.unreachable(cause));
  socket.on("unexpected-response", refused);
  // Stays, because ws may report more than one error.
  socket.on("error", failed);
  socket.once("open", () => {
    // The session listens before anything can arrive: the server speaks first after this message.
    const session = new WebSocketSession(socket);
    socket.send(JSON.stringify(start), () => undefined);
    signal?.addEventListener("abort", () => session.close(), { once: true });
    resolve(session);
  });
  try {
    return await promise;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}
