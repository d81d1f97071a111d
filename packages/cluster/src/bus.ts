/**
 * Commands between nodes: request and reply over `cmd.<nodeId>.<service>.<command>`.
 *
 * Nodes only dial out to NATS, so a command reaches a node that no other node can connect to. The reply is
 * an envelope, `{ok}` or `{error}`, because NATS has no notion of a failed reply. A command is not begun after its
 * caller's time limit, however long it was on its way (command-deadline.ts), and its handler gets a signal that ends
 * with the limit.
 *
 * A reply goes to `_INBOX.<caller>.<nodeId>.<random>`, where the node and only the node may publish. A message that
 * names another place is no command: it is what a client had the server send there (see bus-users.ts).
 */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError, type WireError } from "@hearth/errors";
import {
  AuthorizationError,
  type ConnectionOptions,
  type Msg,
  type NatsConnection,
  NoRespondersError,
  nkeyAuthenticator,
  RequestError,
  TimeoutError,
  UserAuthenticationExpiredError,
} from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { Refusals, refusedBy } from "./bus-refusals.ts";
import { DeadlineKeeper, PeerClocks } from "./command-deadline.ts";
import { readSeed } from "./credentials.ts";
import { assertToken } from "./subjects.ts";
import { WriteClock } from "./write-clock.ts";

export interface BusOptions {
  readonly servers: string | readonly string[];
  /** The file of the key that this client logs in with. */
  readonly seedPath?: string;
  /** In place of a key. */
  readonly user?: string;
  readonly pass?: string;
  /** What others reply to; the server lets each user hear what is sent to its own. */
  readonly identity?: string;
  /** Told of what the server refuses to let this client say or hear, which NATS reports on the side. */
  readonly onRefused?: (error: HearthError) => void;
  /** Name of this client in the server's monitoring. */
  readonly name?: string;
  readonly connectTimeoutMs?: number;
  readonly reconnectWaitMs?: number;
  /** Never goes to another server that the cluster has. */
  readonly staysWithServers?: boolean;
  /**
   * Keep trying the first connection until this is aborted, instead of failing at once. A service that
   * must start while the bus is down passes the promise on and goes ahead.
   */
  readonly retryUntil?: AbortSignal;
}

export interface RequestOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export type Handler = (
  payload: unknown,
  context: { readonly signal: AbortSignal },
) => Promise<unknown> | unknown;

export interface Serving extends AsyncDisposable {
  /** Stops taking commands and waits for those under way. */
  stop(): Promise<void>;
}

/** The first tells the clock of the other side, the second may be too early by what the telling took. */
const mostRefused = 2;
/** The caller's own limit is to end its wait, and not a handler that gives up for it a moment earlier. */
const handlerGraceMs = 250;
/** Of a client that is new; one that was connected tries for ever. */
const firstConnectLimitMs = 10_000;
const pingEveryMs = 2_000;

export class Bus {
  /** The connection itself, for the siblings in this package. */
  readonly connection: NatsConnection;
  readonly identity: string;
  readonly refusals: Refusals;
  /** Of what this process writes; whoever reads the state over this bus keeps it ahead of what was read. */
  readonly clock = new WriteClock();
  readonly #peers = new PeerClocks();
  readonly #deadlines = new DeadlineKeeper();
  #isConnected = true;
  #connections = 1;
  #serverChanges = 0;

  constructor(connection: NatsConnection, options: Pick<BusOptions, "identity" | "onRefused"> = {}) {
    this.connection = connection;
    this.identity = options.identity ?? defaultIdentity;
    this.refusals = new Refusals(connection, options.onRefused);
    void this.#follow();
  }

  /** False from when the server is known to be gone until there is one again. */
  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** Grows with each connection that was made anew: behind it may be a server that has lost something. */
  get connections(): number {
    return this.#connections;
  }

  /** Grows when the server that this client is with tells that another one has come or gone. */
  get serverChanges(): number {
    return this.#serverChanges;
  }

  async #follow(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === "update") {
        this.#serverChanges += 1;
        this.#keepServers(status.deleted ?? []);
      }
      if (status.type === "disconnect") this.#isConnected = false;
      if (status.type === "reconnect") {
        this.#isConnected = true;
        this.#connections += 1;
      }
    }
    this.#isConnected = false;
  }

  /**
   * The client forgets the servers that its own does not name. One that is cut off from all others, as when its host is
   * removed, names itself only: without the others the client would dial that one for ever.
   */
  #keepServers(forgotten: readonly string[]): void {
    const { connection } = this;
    const named = connection.info?.connect_urls ?? [];
    if (forgotten.length === 0 || named.length > 1 || connection.isClosed()) return;
    const known = connection.getServers().map(({ listen }) => listen);
    connection.setServers([...known, ...forgotten.filter((server) => !known.includes(server))]);
  }

  /** Throws what the handler threw, or `unavailable`, `deadline_exceeded`, `cancelled`, `bus_refused`. */
  async request(
    nodeId: string,
    service: string,
    command: string,
    payload: unknown,
    options: RequestOptions,
  ): Promise<unknown> {
    const subject = commandSubject(nodeId, service, command);
    const body = JSON.stringify(payload ?? null);
    const endMs = performance.now() + options.timeoutMs;
    for (let refused = 0; refused <= mostRefused; refused += 1) {
      const leftMs = endMs - performance.now();
      if (leftMs <= 0) break;
      const reply = await this.#ask({ nodeId, service, subject, body }, leftMs, options.signal);
      if (!this.#peers.hear(`${nodeId}.${service}`, reply.headers)) continue;
      const envelope = reply.json<{ ok?: unknown; error?: WireError }>();
      if (envelope.error !== undefined) throw HearthError.fromWire(envelope.error);
      return envelope.ok;
    }
    throw new HearthError("deadline_exceeded", { message: "The command came too late and was not begun." });
  }

  async #ask(
    { nodeId, service, subject, body }: Readonly<Record<"nodeId" | "service" | "subject" | "body", string>>,
    waitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Msg> {
    if (signal?.aborted) throw new HearthError("cancelled", { cause: signal.reason });
    const timeout = Math.max(1, Math.floor(waitMs));
    const endMs = performance.now() + timeout;
    const pending = this.connection.request(subject, body, {
      timeout,
      headers: this.#peers.commandHeaders(`${nodeId}.${service}`, timeout),
      noMux: true,
      // Not the client's own counter, of which who has seen one number can guess the next.
      reply: `_INBOX.${this.identity}.${nodeId}.${randomBytes(16).toString("base64url")}`,
    });
    return await abortable(pending, signal).catch(async (error: unknown) => {
      const failed = busError(error);
      // A timer counts from the beginning of its turn of the loop; until the end that was said the command may begin.
      while (failed.code === "deadline_exceeded" && performance.now() < endMs)
        await delay(endMs - performance.now());
      throw failed;
    });
  }

  serve(nodeId: string, service: string, handlers: Readonly<Record<string, Handler>>): Serving {
    const stopping = new AbortController();
    const underWay = new Set<Promise<void>>();
    const subscription = this.connection.subscribe(commandSubject(nodeId, service, "*"), {
      callback: (error, message) => {
        if (error !== null) return; // the subscription is closed with the connection; nothing to answer
        if (!isInboxOf(nodeId, message.reply)) return;
        const run = this.#answer(message, handlers, stopping.signal).finally(() => underWay.delete(run));
        underWay.add(run);
      },
    });
    const stop = async (): Promise<void> => {
      if (!subscription.isClosed()) subscription.unsubscribe();
      stopping.abort(new HearthError("unavailable"));
      await Promise.allSettled(underWay);
    };
    return { stop, [Symbol.asyncDispose]: stop };
  }

  async #answer(
    message: Msg,
    handlers: Readonly<Record<string, Handler>>,
    stopping: AbortSignal,
  ): Promise<void> {
    let body: { ok: unknown } | { error: WireError };
    const leftMs = this.#deadlines.leftMs(message.headers);
    try {
      if (leftMs === undefined) throw new HearthError("deadline_exceeded");
      const command = message.subject.split(".").at(-1) ?? "";
      const handler = Object.hasOwn(handlers, command) ? handlers[command] : undefined;
      if (handler === undefined) throw new HearthError("not_implemented");
      const signal = AbortSignal.any([stopping, AbortSignal.timeout(leftMs + handlerGraceMs)]);
      body = { ok: (await handler(parse(message), { signal })) ?? null };
    } catch (error) {
      body = { error: HearthError.from(error).toWire() };
    }
    const respond = (content: typeof body): void => {
      const head = this.#deadlines.replyHeaders({ isRefusal: leftMs === undefined });
      message.respond(JSON.stringify(content), { headers: head });
    };
    // With the connection closed there is nobody to answer: the caller's own limit ends its wait.
    try {
      respond(body);
    } catch (cause) {
      if (cause instanceof Error && cause.name === "ClosedConnectionError") return;
      respond({ error: new HearthError("payload_too_large").toWire() });
    }
  }

  /**
   * Waits until what was sent before has reached the server: after `serve`, others can call.
   * @throws HearthError `bus_refused` when it refused what was subscribed to since the last time
   */
  async flush(): Promise<void> {
    await this.connection.flush();
    // A refusal comes before the answer to the flush, and the client library tells it in a queue of its own.
    await new Promise((resolve) => setImmediate(resolve));
    this.refusals.throwSubscription();
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Connects and keeps reconnecting for ever.
 * @throws HearthError `unavailable`, `bus_unauthorized` when the first attempt fails
 */
export async function connectBus(options: BusOptions): Promise<Bus> {
  const { seedPath, user, pass, identity = defaultIdentity, onRefused } = options;
  const settings: ConnectionOptions = {
    servers: typeof options.servers === "string" ? [options.servers] : [...options.servers],
    ...(seedPath === undefined ? {} : { authenticator: nkeyAuthenticator(readSeed(seedPath)) }),
    ...(user === undefined ? {} : { user }),
    ...(pass === undefined ? {} : { pass }),
    inboxPrefix: `_INBOX.${assertToken(identity)}`,
    timeout: options.connectTimeoutMs ?? 5_000,
    maxReconnectAttempts: -1,
    reconnectTimeWait: options.reconnectWaitMs ?? 250,
    reconnectJitter: 100,
    // The first is the nearest.
    noRandomize: true,
    // A host that loses its power says nothing: without a word for 4 to 6 s, the client looks for another server.
    pingInterval: pingEveryMs,
    maxPingOut: 2,
    ignoreAuthErrorAbort: true,
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.staysWithServers === true ? { ignoreClusterUpdates: true } : {}),
  };
  let told = false;
  for (;;) {
    try {
      if (seedPath !== undefined) await assertKnown(settings);
      return new Bus(await connectInTime(settings), options);
    } catch (cause) {
      const { retryUntil } = options;
      const error = connectError(cause);
      if (retryUntil === undefined || retryUntil.aborted) throw error;
      // A host that has just joined is refused until the servers have heard of it, so it goes on trying.
      if (error.code === "bus_unauthorized" && !told) onRefused?.(error);
      told ||= error.code === "bus_unauthorized";
      await delay(settings.reconnectTimeWait, undefined, { signal: retryUntil }).catch(() => undefined);
    }
  }
}

/**
 * A refusal ends the first attempt at one server only. One of a cluster names the others with it, and the client tries
 * all of them again and again, with no word of why; so a key is tried at the servers that are known, and no others.
 */
async function assertKnown(settings: ConnectionOptions): Promise<void> {
  const tried = await connect({ ...settings, ignoreClusterUpdates: true, reconnect: false });
  await tried.close();
}

/**
 * A key that is taken back between that and this would have the client try for ever. And a client that loses its first
 * server would try that one again before any other, for as long as a host without power lets it wait.
 */
async function connectInTime(settings: ConnectionOptions): Promise<NatsConnection> {
  const endMs = performance.now() + firstConnectLimitMs;
  let isOpen = false;
  let isFirstLoss = true;
  const reconnectToServer: ConnectionOptions["reconnectToServer"] = ([, another]) => {
    if (!isOpen && performance.now() > endMs) throw new Error("no server of the bus let this client in");
    if (!isOpen || !isFirstLoss) return null; // the one that the client would take
    isFirstLoss = false;
    return another ?? null;
  };
  const connection = await connect({ ...settings, reconnectToServer });
  isOpen = true;
  return connection;
}

/** Errors of the NATS client as codes of Hearth. */
export function busError(error: unknown): HearthError {
  if (error instanceof HearthError) return error;
  const refused = refusedBy(error);
  if (refused !== undefined) return refused;
  if (error instanceof TimeoutError) return new HearthError("deadline_exceeded", { cause: error });
  if (error instanceof NoRespondersError) return new HearthError("unavailable", { cause: error });
  if (error instanceof RequestError) {
    return error.isNoResponders() ? new HearthError("unavailable", { cause: error }) : busError(error.cause);
  }
  return new HearthError("unavailable", { cause: error });
}

const defaultIdentity = "local";

function connectError(cause: unknown): HearthError {
  if (cause instanceof AuthorizationError || cause instanceof UserAuthenticationExpiredError)
    return new HearthError("bus_unauthorized", { cause });
  return new HearthError("unavailable", { message: "The bus does not answer.", cause });
}

function isInboxOf(nodeId: string, reply: string | undefined): boolean {
  const [inbox, caller, node, random] = reply?.split(".") ?? [];
  return inbox === "_INBOX" && caller !== undefined && node === nodeId && random !== undefined;
}

function commandSubject(nodeId: string, service: string, command: string): string {
  const last = command === "*" ? command : assertToken(command);
  return `cmd.${assertToken(nodeId)}.${assertToken(service)}.${last}`;
}

function parse(message: Msg): unknown {
  try {
    return message.json();
  } catch (cause) {
    throw new HearthError("malformed_json", { cause });
  }
}

function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => reject(new HearthError("cancelled", { cause: signal.reason }));
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
