/**
 * Listeners for the ports that apps have for themselves, opened and closed as machines come and go. One path: what is
 * wanted is compared with what listens, after each change and again later; a port that another process has is tried
 * again then, and named meanwhile.
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type { PortClaims, PortOwner, PortRule } from "../routes/port-claims.ts";

/** Nothing is read of a connection before it is known which process serves it. */
export const listenerOptions = { allowHalfOpen: true, noDelay: true, pauseOnConnect: true } as const;

export interface TcpPortsDeps {
  readonly claims: PortClaims;
  readonly rule: PortRule;
  readonly host: string;
  readonly serve: (socket: Socket, port: number, owner: PortOwner) => void;
  readonly log: (fields: object, text: string) => void;
}

interface Listening {
  readonly server: Server;
  owner: PortOwner;
}

export class TcpPorts {
  readonly #deps: TcpPortsDeps;
  readonly #listening = new Map<number, Listening>();
  readonly #refused = new Map<number, string>();
  #watching: Disposable | undefined;
  #looking: Promise<void> = Promise.resolve();
  #isDue = false;
  #isStopped = false;

  constructor(deps: TcpPortsDeps) {
    this.#deps = deps;
  }

  async start(): Promise<void> {
    this.#watching = this.#deps.claims.watch(() => void this.look());
    await this.look();
  }

  /** Sentences about ports that somebody wants and that cannot be had. */
  problems(): string[] {
    return [...this.#refused].map(([port, code]) => `Port ${port} cannot be opened (${code}).`);
  }

  get open(): readonly number[] {
    return [...this.#listening.keys()];
  }

  /** Resolves when what was wanted at this moment is so. */
  look(): Promise<void> {
    if (this.#isDue) return this.#looking;
    this.#isDue = true;
    this.#looking = this.#looking.then(() => {
      this.#isDue = false;
      return this.#converge();
    });
    return this.#looking;
  }

  async stop(): Promise<void> {
    this.#watching?.[Symbol.dispose]();
    this.#isStopped = true;
    await this.#looking;
    for (const { server } of this.#listening.values()) server.close();
    this.#listening.clear();
  }

  async #converge(): Promise<void> {
    if (this.#isStopped) return;
    const wanted = this.#deps.claims.owners(this.#deps.rule);
    for (const [port, listening] of this.#listening) {
      const owner = wanted.get(port);
      if (owner !== undefined) {
        listening.owner = owner;
        continue;
      }
      this.#listening.delete(port);
      listening.server.close();
    }
    for (const port of [...this.#refused.keys()]) if (!wanted.has(port)) this.#refused.delete(port);
    for (const [port, owner] of wanted) if (!this.#listening.has(port)) await this.#open(port, owner);
  }

  async #open(port: number, owner: PortOwner): Promise<void> {
    const { host, serve, log } = this.#deps;
    const server = createServer(listenerOptions);
    const listening: Listening = { server, owner };
    server.on("connection", (socket) => serve(socket, port, listening.owner));
    try {
      server.listen({ host, port });
      await once(server, "listening");
      server.on("error", (error) => log({ err: error, port }, "a port failed"));
      this.#listening.set(port, listening);
      this.#refused.delete(port);
    } catch (error) {
      const { code = "unknown" } = error as NodeJS.ErrnoException;
      if (!this.#refused.has(port)) log({ port, app: owner.app, code }, "a port cannot be opened");
      this.#refused.set(port, code);
    }
  }
}
