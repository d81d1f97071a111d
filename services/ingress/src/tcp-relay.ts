/**
 * A connection that is forwarded as bytes: it gets a machine as a request does, is joined with it, and half-close is
 * kept. A machine that does not take the connection is passed over while nothing was sent to it.
 */
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type { AccessLog } from "./access-log.ts";
import { type Balancer, Refused, type WaitReason } from "./balancer.ts";
import type { LoadedPlace } from "./choose-place.ts";
import { clientAddress } from "./client-address.ts";
import { joinStreams } from "./join-streams.ts";
import type { IngressLimits } from "./limits.ts";
import type { LoadedTarget } from "./targets.ts";
import { connectTimeout } from "./unreachable.ts";

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
    const found = await connected(deps, { find, tried, waits, signal: gone.signal });
    place = found.place;
    waitMs = performance.now() - beganMs;
    const failed = await joinStreams(stream, found.guest, deps.limits.tunnelIdleMs);
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

interface Search {
  readonly find: () => LoadedTarget | undefined;
  readonly tried: Set<string>;
  readonly waits: (why: WaitReason) => void;
  readonly signal: AbortSignal;
}

async function connected(
  { balancer, limits }: TcpRelayDeps,
  { find, tried, waits, signal }: Search,
): Promise<{ readonly place: LoadedPlace; readonly guest: Socket }> {
  for (;;) {
    const place = await balancer.acquire(find, tried, signal, waits);
    tried.add(place.endpoint.id);
    try {
      return { place, guest: await connectTo(place, limits.connectMs, signal) };
    } catch (error) {
      balancer.avoid(place, error);
      balancer.release(place);
      if (tried.size >= limits.attempts || signal.aborted)
        throw new Refused(balancer.refusalOf(place, error), (error as Error).message);
      if (balancer.isSettling(place, error)) {
        tried.delete(place.endpoint.id);
        await delay(limits.settleRetryMs);
      }
    }
  }
}

function connectTo(
  { endpoint, service }: LoadedPlace,
  limitMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const guest = connect({
      host: endpoint.address,
      port: service.internalPort,
      allowHalfOpen: true,
      noDelay: true,
    });
    const end = (error: Error): void => {
      guest.destroy();
      reject(error);
    };
    const timer = setTimeout(() => end(connectTimeout()), limitMs);
    const abort = (): void => end(signal.reason as Error);
    const settle = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    };
    if (signal.aborted) return end(signal.reason as Error);
    signal.addEventListener("abort", abort, { once: true });
    guest.once("error", (error) => {
      settle();
      reject(error);
    });
    guest.once("connect", () => {
      settle();
      guest.removeAllListeners("error");
      resolve(guest);
    });
    guest.once("close", settle);
  });
}
