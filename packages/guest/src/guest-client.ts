/**
 * How calls to a guest end.
 *
 * A paused machine answers nothing and breaks nothing, so each call without streams has a limit, the caller's
 * or the default one. Streams live as long as what they report on; a caller who leaves the loop over one has
 * ended the call, which the library alone would keep open until the machine is gone.
 *
 * A caller who gives up is told apart from one who has said all by a last message, sent here: the HTTP/2
 * library ends the request's stream before it resets it, and the agent would take half a file for a whole one.
 */
import {
  type CallOptions,
  type Client,
  createClient,
  makeAnyClient,
  type Transport,
} from "@connectrpc/connect";
import { Guest } from "./gen/hearth/guest/v1/guest_pb.js";

export type GuestClient = Client<typeof Guest>;

type Requests<Method extends "exec" | "writeFile"> = Parameters<GuestClient[Method]>[0];
type StartStream = (request: unknown, options?: CallOptions) => AsyncIterable<unknown>;
type Call = (request: unknown, options?: CallOptions) => Promise<unknown>;

export function createGuestClient(transport: Transport, callLimitMs: number): GuestClient {
  // The library has a type for each method; here all methods of a kind are treated alike.
  const calls = createClient(Guest, transport) as unknown as Record<string, Call & StartStream>;
  return makeAnyClient(Guest, ({ localName, methodKind }) => {
    const call = calls[localName];
    if (call === undefined) return null;
    switch (methodKind) {
      case "unary":
        return (request, options) => call(request, { timeoutMs: callLimitMs, ...options });
      case "client_streaming":
        return (requests, options) => call(finished(requests as Requests<"writeFile">), options);
      case "bidi_streaming":
        return (requests, options) =>
          endedWhenLeft(
            call,
            localName === "exec" ? inputClosed(requests as Requests<"exec">) : requests,
            options,
          );
      default:
        return (request, options) => endedWhenLeft(call, request, options);
    }
  }) as GuestClient;
}

async function* finished(requests: Requests<"writeFile">): Requests<"writeFile"> {
  yield* requests;
  yield { request: { case: "finish", value: {} } };
}

/** A terminal's input stays open: it may only be the output that is wanted. */
async function* inputClosed(requests: Requests<"exec">): Requests<"exec"> {
  let onTerminal = false;
  for await (const message of requests) {
    if (message.request?.case === "start") onTerminal = message.request.value.pty !== undefined;
    yield message;
  }
  if (!onTerminal) yield { request: { case: "closeStdin", value: {} } };
}

function endedWhenLeft(start: StartStream, request: unknown, options?: CallOptions): AsyncIterable<unknown> {
  const left = new AbortController();
  const signal = options?.signal === undefined ? left.signal : AbortSignal.any([left.signal, options.signal]);
  const replies = start(request, { ...options, signal });
  return (async function* () {
    try {
      yield* replies;
    } finally {
      left.abort();
    }
  })();
}
