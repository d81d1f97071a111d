/**
 * A client of QEMU's machine protocol: one JSON object a line, over a unix socket.
 *
 * Source: QEMU Machine Protocol Specification (docs/interop/qmp-spec). The server takes one client at a time,
 * greets it, and answers nothing before `qmp_capabilities`. Answers carry the id of their command; events
 * come in between.
 */
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { HearthError } from "@hearth/errors";

export const defaultCommandLimitMs = 20_000;

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  timer: NodeJS.Timeout;
}

export class QmpClient {
  readonly #socket: Socket;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #greeting = Promise.withResolvers<void>();
  readonly #limitMs: number;
  #nextId = 1;
  #closed = false;
  readonly closed: Promise<void>;

  private constructor(socket: Socket, onEvent: (event: QmpEvent) => void, limitMs: number) {
    this.#socket = socket;
    this.#limitMs = limitMs;
    this.#onEvent = onEvent;
    const gone = Promise.withResolvers<void>();
    this.closed = gone.promise;
    this.#greeting.promise.catch(() => undefined);
    socket.once("close", () => {
      this.#fail();
      gone.resolve();
    });
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => this.#take(line));
    // The close event follows an error and says all that matters here. The line reader passes the error on.
    for (const emitter of [socket, lines]) emitter.on("error", () => undefined);
  }

  /** Connects and negotiates. Rejects with the system's error when nobody listens yet. */
  static async open(
    path: string,
    onEvent: (event: QmpEvent) => void,
    limitMs = defaultCommandLimitMs,
  ): Promise<QmpClient> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    const client = new QmpClient(socket, onEvent, limitMs);
    // A second client waits for the greeting until the first one is gone; that wait needs a limit too.
    const timer = setTimeout(() => socket.destroy(), limitMs);
    try {
      await client.#greeting.promise;
      await client.execute("qmp_capabilities");
      return client;
    } catch (cause) {
      socket.destroy();
      throw cause;
    } finally {
      clearTimeout(timer);
    }
  }

  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#closed) return Promise.reject(new HearthError("vmm_not_running"));
    const id = this.#nextId++;
    const result = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      const cause = new Error(`QMP ${command} was not answered in ${this.#limitMs} ms`);
      result.reject(new HearthError("deadline_exceeded", { cause }));
    }, this.#limitMs);
    this.#pending.set(id, { resolve: result.resolve, reject: result.reject, timer });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args ?? {}, id })}\n`);
    return result.promise;
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(line: string): void {
    const message = JSON.parse(line) as Record<string, unknown>;
    if ("QMP" in message) {
      this.#greeting.resolve();
      return;
    }
    if (typeof message.event === "string") {
      const data = (message.data ?? {}) as Record<string, unknown>;
      this.#onEvent({ event: message.event, data });
      return;
    }
    const pending = this.#pending.get(message.id as number);
    if (pending === undefined) return;
    this.#pending.delete(message.id as number);
    clearTimeout(pending.timer);
    if ("error" in message) pending.reject(new QmpError(message.error as { class: string; desc: string }));
    else pending.resolve(message.return);
  }

  #fail(): void {
    this.#closed = true;
    const error = new HearthError("vmm_not_running");
    this.#greeting.reject(error);
    for (const pending of this.#pending.values()) {
      clearTimeout(pending.timer);
      pending.reject(error);
    }
    this.#pending.clear();
  }
}

/** QEMU refused a command. Stays inside this driver. */
export class QmpError extends Error {
  readonly class: string;

  constructor(error: { class: string; desc: string }) {
    super(error.desc);
    this.name = "QmpError";
    this.class = error.class;
  }
}
