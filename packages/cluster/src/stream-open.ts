/**
 * Opening a bus stream to a node: a command carries the stream's id, and both ends subscribe before they
 * answer or send, so that the first frame is never sent to nobody.
 */
import { HearthError } from "@hearth/errors";
import { createInbox } from "@nats-io/nats-core";
import type { Bus, RequestOptions, Serving } from "./bus.ts";
import { BusStream, type BusStreamLimits } from "./bus-stream.ts";
import { assertToken } from "./subjects.ts";

/** The stream is ended when the handler returns, and failed with what it throws. */
export type StreamHandler = (stream: BusStream, payload: unknown) => Promise<void>;

export interface StreamTarget {
  readonly nodeId: string;
  readonly service: string;
  readonly command: string;
}

const serviceOf = (service: string): string => `${service}-stream`;

const subjectsOf = (id: string) => ({ caller: `stream.${id}.caller`, node: `stream.${id}.node` });

/** Throws as `Bus.request` does. */
export async function openStream(
  bus: Bus,
  target: StreamTarget,
  payload: unknown,
  options: RequestOptions & BusStreamLimits,
): Promise<BusStream> {
  const id = createInbox("id").slice(3);
  const subjects = subjectsOf(id);
  const stream = new BusStream({
    ...options,
    connection: bus.connection,
    receiveSubject: subjects.caller,
    sendSubject: subjects.node,
  });
  try {
    const { nodeId, service, command } = target;
    await bus.request(nodeId, serviceOf(service), command, { id, payload }, options);
    return stream;
  } catch (error) {
    stream.fail(error);
    throw error;
  }
}

export function serveStreams(
  bus: Bus,
  target: Pick<StreamTarget, "nodeId" | "service">,
  handlers: Readonly<Record<string, StreamHandler>>,
  limits: BusStreamLimits = {},
): Serving {
  const open = new Set<BusStream>();
  const accept = (handler: StreamHandler) => (body: unknown) => {
    const { id, payload } = parseOpen(body);
    const subjects = subjectsOf(id);
    const stream = new BusStream({
      ...limits,
      connection: bus.connection,
      receiveSubject: subjects.node,
      sendSubject: subjects.caller,
    });
    open.add(stream);
    void stream.closed.then(() => open.delete(stream));
    // Started after the reply is on its way; a throw reaches the caller through the stream.
    setImmediate(() => void run(handler, stream, payload));
    return null;
  };
  const accepting = Object.fromEntries(
    Object.entries(handlers).map(([name, handler]) => [name, accept(handler)]),
  );
  const serving = bus.serve(target.nodeId, serviceOf(target.service), accepting);
  const stop = async (): Promise<void> => {
    await serving.stop();
    for (const stream of open) stream.fail(new HearthError("unavailable"));
  };
  return { stop, [Symbol.asyncDispose]: stop };
}

async function run(handler: StreamHandler, stream: BusStream, payload: unknown): Promise<void> {
  try {
    await handler(stream, payload);
    await stream.end();
  } catch (error) {
    stream.fail(error);
  }
}

function parseOpen(body: unknown): { id: string; payload: unknown } {
  if (typeof body !== "object" || body === null || !("id" in body) || typeof body.id !== "string") {
    throw new HearthError("invalid_argument", { message: "Not a request to open a stream." });
  }
  return { id: assertToken(body.id), payload: "payload" in body ? body.payload : null };
}
