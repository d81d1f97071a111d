/**
 * Until when a command may be carried out, said in the clock of whoever carries it out.
 *
 * A command can lie for long where nobody sees it: in the client of a caller that has no connection, in a server, in
 * the buffers of a connection, before a process that was stopped. A limit that is counted from its arrival knows none
 * of that, and the wall clocks of two hosts may be an hour apart. So each reply says what the answering process had on
 * its clock since boot. It was read before the reply was heard, so on that clock at least as much has passed since as
 * on the caller's own, and the end of the caller's wait comes out too early by what the reply took, and never too late.
 *
 * A command without a deadline, or with one of another process, is refused with the clock, and sent again with it:
 * that is how a caller begins. docs/rfd/0006.
 */
import { randomBytes } from "node:crypto";
import { hostBootMs, hostBootStepMs } from "@hearth/process";
import { headers, type MsgHdrs } from "@nats-io/nats-core";

const deadlineHeader = "Hearth-Deadline";
const clockHeader = "Hearth-Clock";
const refusedHeader = "Hearth-Not-Begun";

/** Two clocks that run apart by 100 ppm are 6 ms apart after this. */
const trustedMs = 60_000;

interface Moment {
  /** Of the process whose clock it is. */
  readonly epoch: string;
  readonly ms: number;
}

/** Of one process that carries out commands. */
export class DeadlineKeeper {
  readonly #epoch = randomBytes(9).toString("base64url");
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = hostBootMs) {
    this.#nowMs = nowMs;
  }

  /** Milliseconds that are left for the command; undefined when it must not be begun. */
  leftMs(command: MsgHdrs | undefined): number | undefined {
    const deadline = parse(command?.get(deadlineHeader));
    if (deadline === undefined || deadline.epoch !== this.#epoch) return undefined;
    // The clock may be about to go on, and when it was heard it may just have done so.
    const leftMs = deadline.ms - this.#nowMs() - hostBootStepMs;
    return leftMs > 0 ? leftMs : undefined;
  }

  /** Of a reply that leaves now. */
  replyHeaders({ isRefusal }: { readonly isRefusal: boolean }): MsgHdrs {
    const head = headers();
    head.set(clockHeader, `${this.#epoch} ${this.#nowMs()}`);
    if (isRefusal) head.set(refusedHeader, "1");
    return head;
  }
}

interface Heard extends Moment {
  /** On this process's monotonic clock. */
  readonly atMs: number;
}

/** What one process knows of the clocks of those that it commands. */
export class PeerClocks {
  readonly #heard = new Map<string, Heard>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Of a command that waits so long for its reply. */
  commandHeaders(peer: string, waitMs: number): MsgHdrs {
    const head = headers();
    const heard = this.#heard.get(peer);
    const passedMs = heard === undefined ? 0 : this.#nowMs() - heard.atMs;
    if (heard !== undefined && passedMs <= trustedMs)
      head.set(deadlineHeader, `${heard.epoch} ${Math.floor(heard.ms + passedMs + waitMs)}`);
    return head;
  }

  /** False when the command was not begun, because its deadline was none or had passed. */
  hear(peer: string, reply: MsgHdrs | undefined): boolean {
    const clock = parse(reply?.get(clockHeader));
    if (clock !== undefined) this.#heard.set(peer, { ...clock, atMs: this.#nowMs() });
    return !reply?.has(refusedHeader);
  }
}

function parse(text: string | undefined): Moment | undefined {
  const [epoch, digits] = text?.split(" ") ?? [];
  if (epoch === undefined || digits === undefined || !/^\d{1,15}$/.test(digits)) return undefined;
  return { epoch, ms: Number(digits) };
}
