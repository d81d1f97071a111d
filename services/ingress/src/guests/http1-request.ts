/** A request as HTTP/1.1 says it, on the connection to a guest: its head, and its body as fast as the guest takes it. */
import type { Socket } from "node:net";
import { trailersOnward } from "../http/forward-headers.ts";
import type { RequestBody } from "../http/request-body.ts";
import type { GuestRequest } from "./guest-request.ts";

export interface RequestProgress {
  /** Nobody wants an answer any more, or there is one already. */
  isOver(): boolean;
  moved(): void;
  /** All of it. */
  sent(): void;
}

/** @param isLast the connection is closed behind it */
export function headOf({ method, path, head, body }: GuestRequest, isLast: boolean): string {
  const coding = body?.isChunked === true ? "transfer-encoding: chunked\r\n" : "";
  const ending = isLast ? "connection: close\r\n\r\n" : "connection: keep-alive\r\n\r\n";
  return `${method} ${path} HTTP/1.1\r\n${head.lines}${coding}${ending}`;
}

/** With the head before it. */
export function writeBody(socket: Socket, body: RequestBody, head: string, progress: RequestProgress): void {
  const { isChunked } = body;
  // In chunks it goes with the first of them: where their first size is wrong, the guest sees nothing.
  let held = isChunked ? head : "";
  if (!isChunked) socket.write(head, "latin1");
  const source = body.open();
  const more = (): void => void source.resume();
  const done = (): void => {
    socket.off("drain", more);
  };
  socket.on("drain", more);
  source.once("close", done);
  source.on("data", (bytes: Buffer) => {
    if (progress.isOver()) return;
    progress.moved();
    const isTaken = isChunked ? writeChunk(socket, bytes, held) : socket.write(bytes);
    held = "";
    if (!isTaken) source.pause();
  });
  source.once("end", () => {
    done();
    if (progress.isOver()) return;
    progress.sent();
    if (!isChunked) return;
    const trailers = trailersOnward(body.rawTrailers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`${held}0\r\n${trailers.join("")}\r\n`, "latin1");
  });
}

function writeChunk(socket: Socket, bytes: Buffer, head: string): boolean {
  socket.cork();
  socket.write(`${head}${bytes.length.toString(16)}\r\n`, "latin1");
  socket.write(bytes);
  const isTaken = socket.write("\r\n", "latin1");
  socket.uncork();
  return isTaken;
}
