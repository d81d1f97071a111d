/**
 * HTTP/1.1 to one service of one machine: connections that are kept, the one used last first, so that the others grow
 * old and close. A request waits where there are as many as there may be.
 */
import type { IngressLimits } from "../limits.ts";
import type { GuestAddress } from "./connect-guest.ts";
import type { GuestHandler, GuestRequest } from "./guest-request.ts";
import { Http1Connection, type Http1Owner, type Http1Task } from "./http1-connection.ts";

export class Http1Guest implements Http1Owner {
  readonly limits: IngressLimits;
  nowMs = performance.now();
  readonly #guest: GuestAddress;
  readonly #all = new Set<Http1Connection>();
  readonly #free: Http1Connection[] = [];
  readonly #waiting = new Set<Http1Task>();
  #opening = 0;
  #isClosed = false;

  constructor(limits: IngressLimits, guest: GuestAddress) {
    this.limits = limits;
    this.#guest = guest;
  }

  get isBusy(): boolean {
    return this.#all.size > 0 || this.#waiting.size > 0;
  }

  dispatch(request: GuestRequest, handler: GuestHandler): void {
    const task = { request, handler };
    // It cannot be sent twice, so it is not risked on a connection that the guest may be closing just now.
    if (request.body?.isChunked === true) {
      void this.#openFor(task, true);
      return;
    }
    for (let free = this.#free.pop(); free !== undefined; free = this.#free.pop()) {
      if (!free.isStale(this.nowMs)) {
        free.send(task);
        return;
      }
      free.destroy();
    }
    this.#waiting.add(task);
    this.#openMore();
  }

  #openMore(): void {
    while (this.#opening < this.#waiting.size && this.#all.size < this.limits.guestConnections)
      void this.#open();
  }

  async #open(): Promise<void> {
    const connection = new Http1Connection(this);
    this.#all.add(connection);
    this.#opening += 1;
    try {
      await connection.connect(this.#guest);
      this.#opening -= 1;
      if (!connection.isClosed) this.free(connection);
    } catch (error) {
      this.#opening -= 1;
      this.#next()?.handler.onResponseError(error as Error);
      this.#openMore();
    }
  }

  /** By a connection of its own. */
  async #openFor(task: Http1Task, isLast: boolean): Promise<void> {
    const connection = new Http1Connection(this);
    this.#all.add(connection);
    try {
      await connection.connect(this.#guest);
      if (connection.isClosed) throw new Error("The connection was given up.");
    } catch (error) {
      task.handler.onResponseError(error as Error);
      return;
    }
    connection.send(task, isLast);
  }

  #next(): Http1Task | undefined {
    for (const task of this.#waiting) {
      this.#waiting.delete(task);
      return task;
    }
    return undefined;
  }

  free(connection: Http1Connection): void {
    const next = this.#next();
    if (next !== undefined) connection.send(next);
    else if (this.#isClosed) connection.destroy();
    else this.#free.push(connection);
  }

  closed(connection: Http1Connection): void {
    this.#all.delete(connection);
    const at = this.#free.indexOf(connection);
    if (at >= 0) this.#free.splice(at, 1);
    if (this.#waiting.size > 0) this.#openMore();
  }

  again(task: Http1Task): void {
    void this.#openFor(task, false);
  }

  /** What waits for a guest that is silent is told so, and what was idle for long is closed. */
  look(nowMs: number): void {
    this.nowMs = nowMs;
    for (const connection of this.#all) connection.look(nowMs);
  }

  /** No new requests; those under way, and those that wait, go on. */
  close(): void {
    this.#isClosed = true;
    for (const connection of [...this.#free]) connection.destroy();
  }

  destroy(): void {
    this.#isClosed = true;
    const error = new Error("The connection was given up.");
    for (let task = this.#next(); task !== undefined; task = this.#next())
      task.handler.onResponseError(error);
    for (const connection of [...this.#all]) connection.fail(error);
  }
}
