/**
 * How calls to a guest end.
 *
 * A paused machine answers nothing and breaks nothing, so each call without streams has a limit, the caller's
 * or the default one. Streams live as long as what they report on; a caller who leaves the loop over one has
 * ended the call, which the library alone would keep open until the machine is gone.
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
        return call;
      default:
        return (request, options) => endedWhenLeft(call, request, options);
    }
  }) as GuestClient;
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
