/**
 * Opening a bus stream to a node: a command carries the stream's id, and both ends subscribe before they
 * answer or send, so that the first frame is never sent to nobody.
 *
 * The subjects bear the node and the caller, `stream.<node>.<caller>.<id>.…`, so that the server can keep a node from
 * the streams of others. The id is random: whoever cannot guess it cannot meddle.
 */
import { randomBytes } from "node:crypto";
import { HearthError } from "@hearth/errors";
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

interface StreamName {
  readonly nodeId: string;
  readonly caller: string;
  readonly id: string;
}

const subjectsOf = ({ nodeId, caller, id }: StreamName) => {
  const stream = `stream.${assertToken(nodeId)}.${assertToken(caller)}.${assertToken(id)}`;
  return { caller: `${stream}.caller`, node: `${stream}.node` };
};

/** Throws as `Bus.request` does. */
export async function openStream(
  bus: Bus,
  target: StreamTarget,
  payload: unknown,
  options: RequestOptions & BusStreamLimits,
): Promise<BusStream> {
  const id = randomBytes(16).toString("base64url");
  const { identity: caller, connection, refusals } = bus;
  const subjects = subjectsOf({ nodeId: target.nodeId, caller, id });
  const stream = new BusStream({
    ...options,
    connection,
    refusals,
    receiveSubject: subjects.caller,
    sendSubject: subjects.node,
  });
  try {
    const { nodeId, service, command } = target;
    await bus.request(nodeId, serviceOf(service), command, { id, caller, payload }, options);
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
    const { id, caller, payload } = parseOpen(body);
    const subjects = subjectsOf({ nodeId: target.nodeId, caller, id });
    const stream = new BusStream({
      ...limits,
      connection: bus.connection,
      refusals: bus.refusals,
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

function parseOpen(body: unknown): { id: string; caller: string; payload: unknown } {
  const { id, caller, payload } = (body ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof id !== "string" || typeof caller !== "string") {
    throw new HearthError("invalid_argument", { message: "Not a request to open a stream." });
  }
  return { id, caller, payload: payload ?? null };
}
