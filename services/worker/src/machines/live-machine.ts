/**
 * One life of a VM as this worker holds it: the VMM, the conversation with its agent, how it ends, and the
 * output that flows to the host's disk meanwhile. Nothing here is durable; a worker that comes back makes it
 * anew from the handle that is.
 */
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { connectGuest, type GuestClient, type GuestConnection } from "@hearth/guest";
import type { MachineExit } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { Vmm, VmmExit, VmmHandle, VmmSpec } from "@hearth/vmm";
import type { Clock } from "../worker-deps.ts";
import type { MachineLog } from "./machine-log.ts";

export interface LiveMachineDeps {
  readonly vmm: Vmm;
  /** The run that started it. */
  readonly boot: string;
  readonly log: MachineLog;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly abandonMs: number;
  /** The program or the VM has ended; called once. */
  readonly onEnd: () => void;
}

export type GuestCall<T> = (client: GuestClient, signal: AbortSignal) => Promise<T>;

const reconnectMs = 200;
const connectLimitMs = 30_000;

export class LiveMachine {
  readonly #deps: LiveMachineDeps;
  readonly #ending = new AbortController();
  readonly #vmGone = Promise.withResolvers<VmmExit>();
  readonly #over = Promise.withResolvers<MachineExit>();
  #starting: Promise<VmmHandle> | undefined;
  #connection: Promise<GuestConnection> | undefined;
  #stream: Duplex | undefined;
  #connected = false;
  #watching = false;
  /** How the machine's program ended, or its VM when that came first. */
  exit: MachineExit | undefined;
  vmExit: VmmExit | undefined;

  constructor(deps: LiveMachineDeps) {
    this.#deps = deps;
    deps.vmm.onExit((exit) => this.#vmEnded(exit));
  }

  get boot(): string {
    return this.#deps.boot;
  }

  get log(): MachineLog {
    return this.#deps.log;
  }

  /** Resolves when the program, or its VM, has ended. */
  get over(): Promise<MachineExit> {
    return this.#over.promise;
  }

  get vmGone(): Promise<VmmExit> {
    return this.#vmGone.promise;
  }

  start(spec: VmmSpec): Promise<VmmHandle> {
    this.#starting = this.#deps.vmm.start(spec);
    return this.#starting;
  }

  async adopt(handle: VmmHandle): Promise<void> {
    await this.#deps.vmm.adopt(handle);
  }

  /** The conversation with the agent, begun when there is none. Throws guest_unreachable, vmm_not_running. */
  async guest(signal: AbortSignal, timeoutMs = connectLimitMs): Promise<GuestConnection> {
    signal.throwIfAborted();
    this.#connection ??= this.#connect(timeoutMs);
    const connection = this.#connection;
    connection.catch(() => {
      if (this.#connection === connection) this.#connection = undefined;
    });
    return await until(connection, signal);
  }

  /** One call to the agent; what it throws is a HearthError. */
  async call<T>(work: GuestCall<T>, signal: AbortSignal): Promise<T> {
    const guest = await this.guest(signal);
    try {
      return await work(guest.client, signal);
    } catch (thrown) {
      if (signal.aborted) throw new HearthError("cancelled", { cause: signal.reason });
      throw guest.error(thrown);
    }
  }

  /** From now on the end of the program is noticed, and its output kept. */
  watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    void this.#again("main", (client, signal) => this.#awaitMain(client, signal));
    void this.#again("output", (client, signal) => this.#follow(client, signal));
  }

  /** Brings over the output that the guest holds now. */
  async drain(signal: AbortSignal): Promise<void> {
    await this.call((client, limit) => this.#copyOutput(client, false, limit), signal);
  }

  /** Ends the VM at once, also one that is just being started. */
  async kill(): Promise<void> {
    const { vmm, abandonMs, logger } = this.#deps;
    const starting = this.#starting?.then(
      () => "up" as const,
      () => "up" as const, // its own caller has the error
    );
    const waited = new AbortController();
    const late = delay(abandonMs, "late" as const, { signal: waited.signal }).catch(() => "late" as const);
    const seen = await Promise.race([starting ?? "up", late]);
    waited.abort();
    if (seen === "up") return await vmm.kill();
    // Nobody may use what comes up after this: it is ended as soon as there is something to end.
    void starting
      ?.then(() => vmm.kill())
      .catch((err: unknown) => logger.error({ err }, "a virtual machine that came up late stays"));
  }

  /** Lets go of the VM without ending it. */
  async release(): Promise<void> {
    this.#ending.abort(new HearthError("cancelled"));
    const connection = this.#connection;
    this.#stream?.destroy();
    await connection?.then(
      (guest) => guest[Symbol.asyncDispose](),
      () => undefined,
    );
    await this.#deps.vmm[Symbol.asyncDispose]();
  }

  async #connect(timeoutMs: number): Promise<GuestConnection> {
    const stream = await this.#deps.vmm.channel();
    this.#stream = stream;
    // Without a listener an error of the socket would end this process; whoever uses it sees the end.
    stream.on("error", () => undefined);
    stream.once("close", () => {
      this.#connection = undefined;
    });
    const booting = this.#starting !== undefined && !this.#connected;
    const guest = await connectGuest(stream, { timeoutMs, booting, signal: this.#ending.signal });
    this.#connected = true;
    return guest;
  }

  /** Repeats `work` over new conversations until it answers true, the VM is gone, or this is released. */
  async #again(what: string, work: GuestCall<boolean>): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted && this.vmExit === undefined) {
      try {
        if (await this.call(work, signal)) return;
      } catch (error) {
        if (signal.aborted || this.vmExit !== undefined) return;
        this.#deps.logger.warn({ err: error, what }, "the conversation with the guest broke");
      }
      await this.#deps.clock.sleep(reconnectMs, signal).catch(() => undefined);
    }
  }

  async #awaitMain(client: GuestClient, signal: AbortSignal): Promise<boolean> {
    for await (const { status } of client.waitMain({}, { signal })) {
      if (status.case !== "exited") continue;
      // The agent tells of its own control group's kills, so that neither an earlier one nor one of exec counts.
      const { code, signal: ended, oom } = status.value;
      this.#end({ exitCode: code, signal: ended, oomKilled: oom });
      return true;
    }
    return false;
  }

  async #follow(client: GuestClient, signal: AbortSignal): Promise<boolean> {
    await this.#copyOutput(client, true, signal);
    return false;
  }

  async #copyOutput(client: GuestClient, follow: boolean, signal: AbortSignal): Promise<void> {
    const { log, boot } = this.#deps;
    const fromSeq = BigInt(await log.nextGuestSeq(boot));
    for await (const { seq, timeMs, stderr, data } of client.logs({ fromSeq, follow }, { signal })) {
      const stream = stderr ? "stderr" : "stdout";
      await log.append({ boot, seq: Number(seq), timeMs: Number(timeMs), stream, data });
    }
  }

  #vmEnded(exit: VmmExit): void {
    this.vmExit = exit;
    this.#vmGone.resolve(exit);
    const text = {
      guest: undefined,
      panic: "The guest's kernel panicked; the machine's console says why.",
      requested: undefined,
      crashed: "The virtual machine ended and nobody asked it to.",
    }[exit.reason];
    const killed = exit.reason === "requested";
    this.#end({
      exitCode: killed ? 137 : text === undefined ? 0 : -1,
      signal: killed ? 9 : 0,
      oomKilled: false,
      ...(text === undefined ? {} : { error: text }),
    });
  }

  #end(exit: Omit<MachineExit, "requestedStop" | "exitedAtMs">): void {
    if (this.exit !== undefined) return;
    this.exit = { ...exit, requestedStop: false, exitedAtMs: this.#deps.clock.nowMs() };
    this.#over.resolve(this.exit);
    this.#deps.onEnd();
  }
}

function until<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(new HearthError("cancelled", { cause: signal.reason }));
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
