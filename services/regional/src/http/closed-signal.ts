/** Aborts when the client goes away before it has its answer, so that nothing goes on for nobody. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { HearthError } from "@hearth/errors";

export function closedSignal(request: IncomingMessage, response: ServerResponse): AbortSignal {
  const left = new AbortController();
  const leave = (): void => {
    if (!response.writableFinished) left.abort(new HearthError("cancelled"));
  };
  if (request.socket.destroyed) leave();
  else response.once("close", leave);
  return left.signal;
}
