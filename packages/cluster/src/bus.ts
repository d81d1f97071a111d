/**
 * Commands between nodes: request and reply over `cmd.<nodeId>.<service>.<command>`.
 *
 * Nodes only dial out to NATS, so a command reaches a node that no other node can connect to. The reply is
 * an envelope, `{ok}` or `{error}`, because NATS has no notion of a failed reply. A handler gets a signal
 * that ends with the caller's time limit, so that work nobody waits for is not begun or goes on for ever.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError, type WireError } from "@hearth/errors";
import {
  type ConnectionOptions,
  headers,
  type Msg,
  type NatsConnection,
  NoRespondersError,
  RequestError,
  TimeoutError,
} from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { assertToken } from "./subjects.ts";
import { WriteClock } from "./write-clock.ts";

export interface BusOptions {
  readonly servers: string | readonly string[];
  readonly user: string;
  readonly pass: string;
  /** Name of this client in the server's monitoring. */
  readonly name?: string;
  readonly connectTimeoutMs?: number;
  readonly reconnectWaitMs?: number;
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

const deadlineHeader = "Hearth-Timeout-Ms";

export class Bus {
  /** The connection itself, for the siblings in this package. */
  readonly connection: NatsConnection;
  /** Of what this process writes; whoever reads the state over this bus keeps it ahead of what was read. */
  readonly clock = new WriteClock();
  #isConnected = true;
  #connections = 1;

  constructor(connection: NatsConnection) {
    this.connection = connection;
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

  async #follow(): Promise<void> {
    for await (const { type } of this.connection.status()) {
      if (type === "disconnect") this.#isConnected = false;
      if (type === "reconnect") {
        this.#isConnected = true;
        this.#connections += 1;
      }
    }
    this.#isConnected = false;
  }

  /** Throws what the handler threw, or `unavailable`, `deadline_exceeded`, `cancelled`. */
  async request(
    nodeId: string,
    service: string,
    command: string,
    payload: unknown,
    options: RequestOptions,
  ): Promise<unknown> {
    const subject = commandSubject(nodeId, service, command);
    if (options.signal?.aborted) throw new HearthError("cancelled", { cause: options.signal.reason });
    const head = headers();
    head.set(deadlineHeader, String(options.timeoutMs));
    const pending = this.connection.request(subject, JSON.stringify(payload ?? null), {
      timeout: options.timeoutMs,
      headers: head,
    });
    const reply = await abortable(pending, options.signal).catch((error: unknown) => {
      throw busError(error);
    });
    const envelope = reply.json<{ ok?: unknown; error?: WireError }>();
    if (envelope.error !== undefined) throw HearthError.fromWire(envelope.error);
    return envelope.ok;
  }

  serve(nodeId: string, service: string, handlers: Readonly<Record<string, Handler>>): Serving {
    const stopping = new AbortController();
    const underWay = new Set<Promise<void>>();
    const subscription = this.connection.subscribe(commandSubject(nodeId, service, "*"), {
      callback: (error, message) => {
        if (error !== null) return; // the subscription is closed with the connection; nothing to answer
        const run = answer(message, handlers, stopping.signal).finally(() => underWay.delete(run));
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

  /** Waits until what was sent before has reached the server: after `serve`, others can call. */
  async flush(): Promise<void> {
    await this.connection.flush();
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Connects and keeps reconnecting for ever. Throws `unavailable` when the first attempt fails. */
export async function connectBus(options: BusOptions): Promise<Bus> {
  const settings: ConnectionOptions = {
    servers: typeof options.servers === "string" ? [options.servers] : [...options.servers],
    user: options.user,
    pass: options.pass,
    timeout: options.connectTimeoutMs ?? 5_000,
    maxReconnectAttempts: -1,
    reconnectTimeWait: options.reconnectWaitMs ?? 250,
    reconnectJitter: 100,
    pingInterval: 10_000,
    maxPingOut: 2,
    ignoreAuthErrorAbort: true,
    ...(options.name === undefined ? {} : { name: options.name }),
  };
  for (;;) {
    try {
      return new Bus(await connect(settings));
    } catch (cause) {
      const { retryUntil } = options;
      if (retryUntil === undefined || retryUntil.aborted) {
        throw new HearthError("unavailable", { message: "The bus does not answer.", cause });
      }
      await delay(settings.reconnectTimeWait, undefined, { signal: retryUntil }).catch(() => undefined);
    }
  }
}

/** Errors of the NATS client as codes of Hearth. */
export function busError(error: unknown): HearthError {
  if (error instanceof HearthError) return error;
  if (error instanceof TimeoutError) return new HearthError("deadline_exceeded", { cause: error });
  if (error instanceof NoRespondersError) return new HearthError("unavailable", { cause: error });
  if (error instanceof RequestError) {
    return error.isNoResponders() ? new HearthError("unavailable", { cause: error }) : busError(error.cause);
  }
  return new HearthError("unavailable", { cause: error });
}

function commandSubject(nodeId: string, service: string, command: string): string {
  const last = command === "*" ? command : assertToken(command);
  return `cmd.${assertToken(nodeId)}.${assertToken(service)}.${last}`;
}

async function answer(
  message: Msg,
  handlers: Readonly<Record<string, Handler>>,
  stopping: AbortSignal,
): Promise<void> {
  let body: { ok: unknown } | { error: WireError };
  try {
    const command = message.subject.split(".").at(-1) ?? "";
    const handler = Object.hasOwn(handlers, command) ? handlers[command] : undefined;
    if (handler === undefined) throw new HearthError("not_implemented");
    const timeoutMs = Number(message.headers?.get(deadlineHeader));
    const limits = timeoutMs > 0 ? [stopping, AbortSignal.timeout(timeoutMs)] : [stopping];
    body = { ok: (await handler(parse(message), { signal: AbortSignal.any(limits) })) ?? null };
  } catch (error) {
    body = { error: HearthError.from(error).toWire() };
  }
  // With the connection closed there is nobody to answer: the caller's own limit ends its wait.
  if (!message.reply) return;
  try {
    message.respond(JSON.stringify(body));
  } catch (cause) {
    if (cause instanceof Error && cause.name === "ClosedConnectionError") return;
    message.respond(JSON.stringify({ error: new HearthError("payload_too_large").toWire() }));
  }
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
