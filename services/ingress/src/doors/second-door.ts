/**
 * A process of the front door that has no listeners: it serves connections that it is given. It reads the state of the
 * cluster itself, as the first process does, and asks that process for what only one may do: to start a machine, to
 * stop one, and to answer for the service. It ends when that process ends.
 */
import type { Socket } from "node:net";
import { HearthError, type WireError } from "@hearth/errors";
import { loadsPauseMs, ownSource, type SharedLoads } from "../choosing/shared-loads.ts";
import type { Ingress } from "../ingress.ts";
import { busyShare } from "./busy-share.ts";
import type { FromChild, StartWish, ToChild } from "./door-messages.ts";

/** The part of `process` that is its end of the channel. */
export interface DoorChannel {
  send?(message: FromChild): unknown;
  readonly connected: boolean;
  on(event: "message", heard: (message: unknown, socket?: unknown) => void): unknown;
  once(event: "disconnect", gone: () => void): unknown;
}

export interface SecondDoorDeps {
  readonly channel: DoorChannel;
  readonly loads: SharedLoads;
  /** Made when it is known which keys it has. */
  readonly makeIngress: (ticketKeys: Buffer) => Ingress;
  /** Resolves when the routes are as new as those of anybody. */
  readonly caughtUp: () => Promise<void>;
}

const closedPauseMs = 50;
const lookMs = 1_000;
const startLimitMs = 15_000;
const firstDoor = "first";

export class SecondDoor {
  readonly #deps: SecondDoorDeps;
  readonly #starts = new Map<number, (error?: HearthError) => void>();
  #closed: number[] = [];
  #telling: NodeJS.Timeout | undefined;
  #looking: NodeJS.Timeout | undefined;
  #ingress: Ingress | undefined;
  #asked = 0;

  constructor(deps: SecondDoorDeps) {
    this.#deps = deps;
  }

  /** Resolves when it is to end, with what is left of it. */
  async run(stopping: AbortSignal): Promise<Ingress | undefined> {
    const { channel, loads } = this.#deps;
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    channel.once("disconnect", resolve);
    stopping.addEventListener("abort", () => resolve(), { once: true });
    channel.on("message", (message, socket) => {
      const said = message as ToChild;
      if (said.type === "stop") resolve();
      else if (said.type === "count") this.tellMetrics();
      else if (said.type === "begin") void this.#begin(said);
      else if (said.type === "challenge") void this.#showChallenge(said);
      else if (said.type === "loads") loads.take(firstDoor, said.report);
      else if (said.type === "draining") this.#ingress?.setDraining(said.machineId, said.isDraining);
      else if (said.type === "started") {
        const error = said.error === undefined ? undefined : HearthError.fromWire(said.error as WireError);
        this.#starts.get(said.number)?.(error);
      } else this.#take(said, socket as Socket | undefined);
    });
    loads.addReceiver({
      ...{ name: firstDoor, pauseMs: loadsPauseMs, hears: (source) => source === ownSource },
      tell: (report) => this.#say({ type: "loads", report }),
    });
    const share = busyShare();
    this.#looking = setInterval(() => this.#say({ type: "busy", share: share() }), lookMs).unref();
    if (stopping.aborted || !channel.connected) resolve();
    await ended;
    clearInterval(this.#looking);
    clearTimeout(this.#telling);
    loads.stop();
    return this.#ingress;
  }

  tellMetrics(): void {
    if (this.#ingress !== undefined) this.#say({ type: "counted", snapshot: this.#ingress.metrics() });
  }

  /** The first process starts it, unless it has just done so. */
  startMachine({ id, nodeId }: StartWish): Promise<void> {
    this.#asked += 1;
    const number = this.#asked;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#starts.delete(number);
        reject(new HearthError("deadline_exceeded"));
      }, startLimitMs);
      this.#starts.set(number, (error) => {
        clearTimeout(timer);
        this.#starts.delete(number);
        if (error === undefined) resolve();
        else reject(error);
      });
      this.#say({ type: "start", number, machine: { id, nodeId } });
    });
  }

  async #begin({ httpsPort, ticketKeys }: Extract<ToChild, { readonly type: "begin" }>): Promise<void> {
    await this.#deps.caughtUp();
    const ingress = this.#deps.makeIngress(Buffer.from(ticketKeys, "base64"));
    await ingress.serve(httpsPort);
    this.#ingress = ingress;
    this.#say({ type: "ready" });
  }

  async #showChallenge({
    number,
    question,
    limitMs,
  }: Extract<ToChild, { readonly type: "challenge" }>): Promise<void> {
    const shown = (await this.#ingress?.challenges.shows(question, limitMs)) === true;
    this.#say({ type: "challenged", number, shown });
  }

  #take(
    { number, arrival }: Extract<ToChild, { readonly type: "connection" }>,
    socket: Socket | undefined,
  ): void {
    // Node gives none when the client has gone on the way.
    if (socket === undefined || socket === null) {
      this.#noteClosed(number);
      return;
    }
    socket.allowHalfOpen = true;
    socket.once("close", () => this.#noteClosed(number));
    if (this.#ingress === undefined) socket.destroy();
    else this.#ingress.take(socket, arrival);
  }

  #noteClosed(number: number): void {
    this.#closed.push(number);
    this.#telling ??= setTimeout(() => {
      this.#telling = undefined;
      const numbers = this.#closed;
      this.#closed = [];
      this.#say({ type: "closed", numbers });
    }, closedPauseMs);
  }

  #say(message: FromChild): void {
    const { channel } = this.#deps;
    if (channel.connected) channel.send?.(message);
  }
}
