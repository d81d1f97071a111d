/**
 * A connection that is forwarded as bytes: it gets a machine as a request does, is joined with it, and half-close is
 * kept.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type Balancer, Refused, type WaitReason } from "../choosing/balancer.ts";
import type { LoadedPlace } from "../choosing/choose-place.ts";
import { findGuest } from "../choosing/find-guest.ts";
import { connectGuest } from "../guests/connect-guest.ts";
import type { IngressLimits } from "../limits.ts";
import type { LoadedTarget } from "../routes/targets.ts";
import type { AccessLog } from "../telemetry/access-log.ts";
import { clientAddress, connectionOf } from "./client-address.ts";
import { joinStreams } from "./join-streams.ts";
import { writeProxyHeader } from "./proxy-protocol.ts";

export interface TcpRelayDeps {
  readonly balancer: Balancer;
  readonly limits: IngressLimits;
  readonly log: AccessLog;
}

export interface RelayRequest {
  /** What is joined: the connection itself, or what TLS makes of it. */
  readonly stream: Duplex;
  readonly socket: Socket;
  readonly find: () => LoadedTarget | undefined;
  readonly protocol: "tcp" | "tls" | "tls-passthrough";
}

/** Resolves when the connection is over. Never rejects. */
export async function relayConnection(deps: TcpRelayDeps, asked: RelayRequest): Promise<void> {
  const { stream, socket, find, protocol } = asked;
  const beganMs = performance.now();
  const client = clientAddress(socket);
  const target = find();
  const gone = new AbortController();
  const left = (): void => gone.abort(new Error("The client went away."));
  stream.on("error", () => stream.destroy());
  stream.once("close", left);
  const tried = new Set<string>();
  let place: LoadedPlace | undefined;
  let told: { readonly reason?: string; readonly why?: string } = {};
  let waitMs = 0;
  let whyWaited: WaitReason | undefined;
  const waits = (why: WaitReason): void => {
    whyWaited ??= why;
  };
  try {
    const { signal } = gone;
    const limitMs = deps.limits.connectMs;
    const found = await findGuest(deps, { find, tried, waits, signal }, (each) =>
      connect(each, socket, { limitMs, signal }),
    );
    place = found.place;
    waitMs = performance.now() - beganMs;
    const failed = await joinStreams(stream, found.made, deps.limits.tunnelIdleMs);
    if (failed !== undefined) told = { reason: "broken_off", why: failed.message };
  } catch (error) {
    const code = error instanceof Refused ? error.code : "guest_refused";
    told = { reason: code, why: (error as Error).message };
    stream.destroy();
  }
  if (place !== undefined) deps.balancer.release(place);
  deps.log({
    event: "connection",
    status: 0,
    client,
    protocol,
    ...(target === undefined ? {} : { app: target.app, route: target.route }),
    ...(place === undefined ? {} : { machine_id: place.endpoint.id }),
    attempts: tried.size,
    wait_ms: Math.round(waitMs),
    ...(whyWaited === undefined ? {} : { why_waited: whyWaited }),
    duration_ms: Math.round(performance.now() - beganMs),
    bytes_in: socket.bytesRead,
    bytes_out: socket.bytesWritten,
    ...told,
  });
}

/** The machine gets the connection; where its service wants to know whose it is, it gets that first. */
async function connect(
  { endpoint, service, port }: LoadedPlace,
  socket: Socket,
  { limitMs, signal }: { readonly limitMs: number; readonly signal: AbortSignal },
): Promise<Socket> {
  const address = { address: endpoint.address, port: service.internalPort };
  const guest = await connectGuest(address, { limitMs, signal, halfOpen: true });
  if (port?.handlers.has("proxy_proto") === true)
    guest.write(writeProxyHeader(port.proxyVersion, connectionOf(socket)));
  return guest;
}
