/**
 * A request that becomes a connection of bytes: WebSocket. Until the guest has agreed it is HTTP, and what a guest
 * answers instead (a 401, say) reaches the client as the answer to its request.
 */
import { type ClientRequest as GuestRequest, request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Refused, type WaitReason } from "../choosing/balancer.ts";
import type { LoadedPlace } from "../choosing/choose-place.ts";
import { findGuest } from "../choosing/find-guest.ts";
import { connectGuest } from "../guests/connect-guest.ts";
import { joinStreams } from "../tcp/join-streams.ts";
import type { ExchangeDeps, ExchangeFacts } from "./exchange.ts";
import { headersToClient } from "./forward-headers.ts";
import { type RefusalCode, refusals, refuseSocket } from "./refusal.ts";

export interface TunnelRequest {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What came after the head of the request. */
  readonly first: Buffer;
  readonly facts: ExchangeFacts;
}

export function openTunnel(deps: ExchangeDeps, asked: TunnelRequest): void {
  void new Tunnel(deps, asked).run();
}

class Tunnel {
  readonly #deps: ExchangeDeps;
  readonly #asked: TunnelRequest;
  readonly #tried = new Set<string>();
  readonly #gone = new AbortController();
  readonly #beganMs = performance.now();
  #place: LoadedPlace | undefined;
  #headSent = false;
  #placedMs = 0;
  #answeredMs = 0;
  #whyWaited: WaitReason | undefined;

  constructor(deps: ExchangeDeps, asked: TunnelRequest) {
    this.#deps = deps;
    this.#asked = asked;
  }

  async run(): Promise<void> {
    const { socket } = this.#asked;
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#gone.abort(new Error("The client went away.")));
    let status = 0;
    let told: { reason?: string; why?: string } = {};
    try {
      const { find } = this.#asked.facts;
      const { signal } = this.#gone;
      const limitMs = this.#deps.limits.connectMs;
      const waits = (why: WaitReason): void => {
        this.#whyWaited ??= why;
      };
      const { place, made } = await findGuest(
        this.#deps,
        { find, tried: this.#tried, waits, signal },
        ({ endpoint: { address }, service: { internalPort: port } }) => {
          this.#placedMs = performance.now();
          return connectGuest({ address, port }, { limitMs, signal });
        },
      );
      this.#place = place;
      status = await this.#ask(made);
    } catch (error) {
      const code: RefusalCode = error instanceof Refused ? error.code : "guest_broke";
      const why = error instanceof Refused ? error.why : String((error as Error).message);
      told = { reason: code, ...(why === undefined ? {} : { why }) };
      status = refusals[code][0];
      // In the middle of an answer, a second one would be read as a part of it.
      if (this.#headSent) socket.destroy();
      else refuseSocket(socket, code, this.#deps.limits.lingerMs);
    }
    if (this.#place !== undefined) this.#deps.balancer.release(this.#place);
    this.#log(status, told);
  }

  async #ask(guest: Socket): Promise<number> {
    const { limits } = this.#deps;
    const { head, path } = this.#asked.facts;
    const asking = httpRequest({
      createConnection: () => guest,
      method: "GET",
      path,
      headers: [...head.headers, "connection", "upgrade", "upgrade", "websocket"],
      signal: this.#gone.signal,
    });
    asking.setTimeout(limits.answerMs, () => asking.destroy(new Refused("guest_slow", "timeout")));
    asking.end();
    return await this.#answer(asking);
  }

  #answer(asking: GuestRequest): Promise<number> {
    const { socket, first } = this.#asked;
    return new Promise((resolve, reject) => {
      asking.on("error", reject);
      asking.once("upgrade", (answer, guest, early) => {
        this.#writeHead(answer, ["connection", "upgrade", "upgrade", "websocket"]);
        if (early.length > 0) socket.write(early);
        if (first.length > 0) guest.write(first);
        void joinStreams(socket, guest, this.#deps.limits.tunnelIdleMs).then(() => resolve(101));
      });
      asking.once("response", (answer) => {
        this.#writeHead(answer, ["connection", "close"]);
        answer.once("error", reject);
        answer.once("end", () => resolve(answer.statusCode ?? 0));
        answer.pipe(socket);
      });
    });
  }

  #writeHead(answer: IncomingMessage, more: readonly string[]): void {
    this.#headSent = true;
    this.#answeredMs = performance.now();
    const { requestId } = this.#asked.facts.head;
    const headers = [...headersToClient(answer.rawHeaders, requestId), ...more];
    const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage ?? ""}`];
    for (let at = 0; at < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`);
    this.#asked.socket.write(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
  }

  #log(status: number, told: { reason?: string; why?: string }): void {
    const { target, head, path, host, client } = this.#asked.facts;
    this.#deps.log({
      event: "tunnel",
      status,
      client,
      protocol: "websocket",
      host,
      path: path.split("?")[0] ?? "",
      app: target.app,
      route: target.route,
      ...(this.#place === undefined ? {} : { machine_id: this.#place.endpoint.id }),
      request_id: head.requestId,
      trace_id: head.traceId,
      attempts: this.#tried.size,
      ...(this.#placedMs === 0 ? {} : { wait_ms: Math.round(this.#placedMs - this.#beganMs) }),
      ...(this.#whyWaited === undefined ? {} : { why_waited: this.#whyWaited }),
      ...(this.#answeredMs === 0 ? {} : { upstream_ms: Math.round(this.#answeredMs - this.#placedMs) }),
      duration_ms: Math.round(performance.now() - this.#beganMs),
      ...told,
    });
  }
}
