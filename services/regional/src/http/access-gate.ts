/**
 * The one way into the API: each request is authenticated and authorized before its handler runs, and again whenever
 * a token is revoked and every few seconds while it lasts. A session or stream of a token that has ended goes on for
 * `defaultRecheckMs` and the tolerance of clocks at most.
 */
import type { IncomingMessage } from "node:http";
import { HearthError } from "@hearth/errors";
import type { FastifyReply, FastifyRequest } from "fastify";
import { wantsWebSocket } from "../sessions/session-sockets.ts";
import type { ClusterView } from "../state/cluster-view.ts";
import type { Authenticator } from "../tokens/auth.ts";
import { type Asked, authorize } from "../tokens/authorize.ts";
import type { Caller } from "../tokens/caller.ts";
import { permissionOf } from "../tokens/route-permissions.ts";

export const defaultRecheckMs = 5_000;
/** For the last line of a stream, which says why it ends; who does not read it is cut off. */
const lastWordsMs = 1_000;

interface Live {
  readonly caller: Caller;
  readonly asked: Asked | undefined;
  readonly ending: AbortController;
}

interface Admitted {
  readonly caller: Caller;
  readonly ended: AbortSignal;
}

export interface AccessGateDeps {
  readonly authenticator: Authenticator;
  readonly view: ClusterView;
  /** How often the ends of tokens are looked at; a revocation is acted on at once. */
  readonly recheckMs?: number | undefined;
}

export class AccessGate {
  readonly #deps: AccessGateDeps;
  readonly #admitted = new WeakMap<IncomingMessage, Admitted>();
  readonly #live = new Set<Live>();
  #timer: NodeJS.Timeout | undefined;

  constructor(deps: AccessGateDeps) {
    this.#deps = deps;
  }

  start(): void {
    const everyMs = this.#deps.recheckMs ?? defaultRecheckMs;
    this.#timer = setInterval(() => this.recheck(), everyMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** @throws HearthError `unauthenticated`, `permission_denied`, or as what does not exist */
  async admit(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { authenticator, view } = this.#deps;
    const caller = await authenticator.authenticate(request.headers.authorization);
    const asked = request.is404 ? undefined : askedOf(request);
    if (asked !== undefined) authorize(caller, view, asked);
    const ending = new AbortController();
    const live: Live = { caller, asked, ending };
    this.#live.add(live);
    this.#admitted.set(request.raw, { caller, ended: ending.signal });
    const isUpgrade = wantsWebSocket(request.raw);
    // The response of an upgrade is left behind when the session begins.
    const lasting = isUpgrade ? request.raw.socket : reply.raw;
    lasting.once("close", () => this.#live.delete(live));
    if (!isUpgrade) cutOff(request, reply, ending.signal);
  }

  callerOf(request: FastifyRequest): Caller {
    return this.#of(request).caller;
  }

  /** Aborts with the reason when the caller may no longer do what it was admitted for. */
  endedOf(request: FastifyRequest): AbortSignal {
    return this.#of(request).ended;
  }

  recheck(): void {
    const { authenticator, view } = this.#deps;
    for (const live of [...this.#live]) {
      try {
        const caller = authenticator.renew(live.caller);
        // A machine that is gone ends its sessions itself; only what became of the token counts here.
        if (caller !== live.caller && live.asked !== undefined) authorize(caller, view, live.asked);
      } catch (thrown) {
        this.#live.delete(live);
        live.ending.abort(HearthError.from(thrown));
      }
    }
  }

  #of(request: FastifyRequest): Admitted {
    const admitted = this.#admitted.get(request.raw);
    if (admitted === undefined) throw new HearthError("unauthenticated");
    return admitted;
  }
}

function askedOf(request: FastifyRequest): Asked {
  const { url = "" } = request.routeOptions;
  const permission = permissionOf(request.method, url);
  if (permission === undefined)
    throw new HearthError("permission_denied", {
      message: `No permission is stated for ${request.method} ${url}, so nobody has it; this is a fault of Hearth.`,
    });
  return { permission, params: (request.params ?? {}) as Asked["params"] };
}

function cutOff(request: FastifyRequest, reply: FastifyReply, ended: AbortSignal): void {
  const isLines = request.routeOptions.config.answers === "lines";
  const cut = (): void => {
    setTimeout(() => reply.raw.destroy(), isLines ? lastWordsMs : 0).unref();
  };
  ended.addEventListener("abort", cut, { once: true });
}
