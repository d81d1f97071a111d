/**
 * The processes of the front door beside the one that takes the connections: it starts them, gives each a part of the
 * connections, and starts one again that has ended, while the others go on. They are children with a channel to this
 * process, and go when it goes.
 *
 * A connection is given to the process that has the fewest, this one included. Node passes one connection at a time
 * through a channel, and a process that is behind with taking them is given no more; so one that hangs gets a handful.
 */
import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import { HearthError } from "@hearth/errors";
import type { ChallengeQuestion } from "@hearth/machine";
import { loadsPauseMs, type SharedLoads } from "../choosing/shared-loads.ts";
import type { DoorSnapshot } from "../telemetry/door-metrics.ts";
import { defaultGrowth, firstGrowth, type GrowthRule, type GrowthState, grow } from "./door-growth.ts";
import type { Arrival, FromChild, StartWish, ToChild } from "./door-messages.ts";
import { DoorTotals } from "./door-totals.ts";

export interface DoorSetDeps {
  /** Starts the process of this number, with a channel. */
  readonly spawn: (number: number) => ChildProcess;
  readonly loads: SharedLoads;
  readonly httpsPort: number;
  readonly ticketKeys: Buffer;
  /** A child asks that a machine is started. */
  readonly startMachine: (machine: StartWish) => Promise<void>;
  /** Connections that this process serves itself. */
  readonly ownConnections: () => number;
  /** How much of the last second this process was at work. */
  readonly ownShare: () => number;
  readonly growth: Pick<GrowthRule, "most" | "isFixed"> & Partial<GrowthRule>;
  readonly log: (fields: object, text: string) => void;
  readonly restartMs?: number;
}

interface Child {
  readonly number: number;
  readonly process: ChildProcess;
  /** By number of the connection: what is to be called when it is over. */
  readonly held: Map<number, () => void>;
  readonly ended: Promise<void>;
  isReady: boolean;
  /** Called with its next word of what it has counted. */
  counted: (() => void) | undefined;
  /** Given to the channel and not yet with the child. */
  onTheWay: number;
  share: number;
  /** It gets no more connections. */
  isLeaving: boolean;
  /** It was told to go. */
  isEnding: boolean;
}

const doorSource = (number: number): string => `door:${number}`;

/** Connections on the way to one child. */
const mostOnTheWay = 16;
const lookMs = 1_000;
const countLimitMs = 1_000;
/** After an end that nobody asked for, seen at the next look; doubled for each that follows soon. */
const firstRestartMs = 500;
const lastRestartMs = 30_000;
const steadyMs = 60_000;

export class DoorSet {
  readonly #deps: DoorSetDeps;
  readonly #children = new Map<number, Child>();
  readonly #totals = new DoorTotals();
  /** What children were asked about challenges, by number. */
  readonly #questions = new Map<number, (shown: boolean) => void>();
  readonly #rule: GrowthRule;
  #growth: GrowthState;
  #looking: NodeJS.Timeout | undefined;
  #connections = 0;
  #asked = 0;
  #isStopping = false;
  #restartMs: number;
  #endedAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: DoorSetDeps) {
    this.#deps = deps;
    this.#rule = { ...defaultGrowth, ...deps.growth };
    this.#growth = firstGrowth(this.#rule);
    this.#restartMs = deps.restartMs ?? firstRestartMs;
  }

  start(): void {
    if (this.#rule.most <= 1) return;
    this.#looking = setInterval(() => this.#look(), lookMs).unref();
    this.#converge();
  }

  /** Processes that serve, this one included. */
  get serving(): number {
    return 1 + [...this.#children.values()].filter(({ isReady, isLeaving }) => isReady && !isLeaving).length;
  }

  get pids(): number[] {
    return [...this.#children.values()].flatMap(({ process: { pid } }) => (pid === undefined ? [] : [pid]));
  }

  /** True when a child serves it. `over` is then called when the connection is over, or its process is. */
  handOver(socket: Socket, arrival: Arrival, over: () => void): boolean {
    let best: Child | undefined;
    let fewest = this.#deps.ownConnections();
    for (const child of this.#children.values()) {
      if (!child.isReady || child.isLeaving || child.onTheWay >= mostOnTheWay) continue;
      if (child.held.size >= fewest) continue;
      best = child;
      fewest = child.held.size;
    }
    if (best === undefined) return false;
    const child = best;
    this.#connections += 1;
    const number = this.#connections;
    child.held.set(number, over);
    child.onTheWay += 1;
    const message: ToChild = { type: "connection", number, arrival };
    child.process.send(message, socket, {}, (error) => {
      child.onTheWay -= 1;
      if (error === null || error === undefined) return;
      this.#over(child, number);
      socket.destroy();
    });
    return true;
  }

  tell(message: ToChild): void {
    for (const child of this.#children.values()) this.#tell(child, message);
  }

  /** What all processes have counted, this one's included; of one that does not answer in time what it said last. */
  async metrics(own: DoorSnapshot): Promise<DoorSnapshot> {
    const asked = [...this.#children.values()].map((child) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      child.counted = resolve;
      this.#tell(child, { type: "count" });
      const timer = setTimeout(resolve, countLimitMs);
      return Promise.race([promise, child.ended]).finally(() => clearTimeout(timer));
    });
    await Promise.all(asked);
    return this.#totals.with(own);
  }

  /**
   * Whether an authority that comes is shown this by each child, which have the state of the cluster a moment apart. One
   * that ends shows nothing to anybody, and one that does not answer may show something else.
   */
  async show(question: ChallengeQuestion, limitMs: number): Promise<boolean> {
    const asked = [...this.#children.values()]
      .filter(({ isReady }) => isReady)
      .map((child) => {
        const { promise, resolve } = Promise.withResolvers<boolean>();
        this.#asked += 1;
        const number = this.#asked;
        this.#questions.set(number, resolve);
        this.#tell(child, { type: "challenge", number, question, limitMs });
        const timer = setTimeout(() => resolve(false), limitMs);
        return Promise.race([promise, child.ended.then(() => true)]).finally(() => {
          clearTimeout(timer);
          this.#questions.delete(number);
        });
      });
    return (await Promise.all(asked)).every((shown) => shown);
  }

  /** What is under way ends first, within the limit of the children themselves, and this one. */
  async stop(limitMs: number): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#looking);
    const children = [...this.#children.values()];
    for (const child of children) this.#tell(child, { type: "stop" });
    const killing = setTimeout(() => {
      for (const child of children) child.process.kill("SIGKILL");
    }, limitMs);
    await Promise.all(children.map(({ ended }) => ended));
    clearTimeout(killing);
  }

  #look(): void {
    const serving = [...this.#children.values()].filter(({ isReady, isLeaving }) => isReady && !isLeaving);
    const shares = [this.#deps.ownShare(), ...serving.map(({ share }) => share)];
    const before = this.#growth.wanted;
    this.#growth = grow(this.#growth, shares, this.#rule);
    const { wanted } = this.#growth;
    if (wanted !== before)
      this.#deps.log({ event: "doors", processes: wanted }, "another number of processes");
    this.#converge();
  }

  #converge(): void {
    if (this.#isStopping) return;
    for (let number = 1; number < this.#growth.wanted; number += 1) {
      const child = this.#children.get(number);
      if (child !== undefined) child.isLeaving = child.isEnding;
      else if (performance.now() - this.#endedAtMs >= this.#restartMs) this.#begin(number);
    }
    for (const child of this.#children.values()) {
      if (child.number < this.#growth.wanted) continue;
      child.isLeaving = true;
      // Long connections keep their process until they are over.
      if (child.held.size > 0 || child.isEnding) continue;
      child.isEnding = true;
      this.#tell(child, { type: "stop" });
    }
  }

  #begin(number: number): void {
    const { spawn, loads, httpsPort, ticketKeys, log } = this.#deps;
    const beganAtMs = performance.now();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const child: Child = {
      ...{ number, process: spawn(number), held: new Map<number, () => void>(), ended },
      ...{ isReady: false, counted: undefined, onTheWay: 0, share: 0, isLeaving: false, isEnding: false },
    };
    this.#children.set(number, child);
    const source = doorSource(number);
    child.process.on("message", (message) => this.#hear(child, message as FromChild));
    child.process.on("error", (error) => log({ err: error, door: number }, "a process of the door failed"));
    // After its channel is read to the end; one that could not be started has no exit.
    child.process.once("close", (code, signal) => {
      loads.removeReceiver(source);
      loads.forget(source);
      this.#children.delete(number);
      this.#totals.end(number);
      for (const id of [...child.held.keys()]) this.#over(child, id);
      if (!this.#isStopping && !child.isLeaving) {
        log({ event: "door_ended", door: number, code, signal }, "a process of the door has ended");
        const isSteady = performance.now() - beganAtMs > steadyMs;
        const first = this.#deps.restartMs ?? firstRestartMs;
        this.#endedAtMs = performance.now();
        this.#restartMs = isSteady ? first : Math.min(lastRestartMs, this.#restartMs * 2);
      }
      resolve();
    });
    this.#tell(child, { type: "begin", httpsPort, ticketKeys: ticketKeys.toString("base64") });
    loads.addReceiver({
      ...{ name: source, pauseMs: loadsPauseMs, hears: () => true },
      tell: (report) => this.#tell(child, { type: "loads", report }),
    });
  }

  #hear(child: Child, message: FromChild): void {
    const { loads, startMachine, log } = this.#deps;
    if (message.type === "ready") {
      child.isReady = true;
      log({ event: "door_ready", door: child.number, pid: child.process.pid }, "one more process serves");
    } else if (message.type === "closed") for (const number of message.numbers) this.#over(child, number);
    else if (message.type === "loads") loads.take(doorSource(child.number), message.report);
    else if (message.type === "counted") {
      this.#totals.take(child.number, message.snapshot);
      child.counted?.();
    } else if (message.type === "busy") child.share = message.share;
    else if (message.type === "challenged") this.#questions.get(message.number)?.(message.shown);
    else {
      const { number } = message;
      startMachine(message.machine).then(
        () => this.#tell(child, { type: "started", number }),
        (error: unknown) =>
          this.#tell(child, { type: "started", number, error: HearthError.from(error).toWire() }),
      );
    }
  }

  #over({ held }: Child, number: number): void {
    const over = held.get(number);
    held.delete(number);
    over?.();
  }

  #tell({ process: { connected }, process: child }: Child, message: ToChild): void {
    // One that has just ended is seen to by its end.
    if (connected) child.send(message, () => undefined);
  }
}
