/**
 * How many connections the door of this host has, together and from one address. All are counted by the process that
 * takes them, whichever process serves them then, so that the limits are those of the host.
 */
import type { Socket } from "node:net";
import type { IngressLimits } from "../limits.ts";

export class ConnectionLimit {
  readonly #limits: Pick<IngressLimits, "connections" | "connectionsPerSource">;
  readonly #perSource = new Map<string, number>();
  #open = 0;

  constructor(limits: Pick<IngressLimits, "connections" | "connectionsPerSource">) {
    this.#limits = limits;
  }

  get open(): number {
    return this.#open;
  }

  /**
   * Undefined when it is one too many: then it is closed without a word, as a word would cost what is short.
   * @param address whose it is; undefined where that is not known yet, and not limited
   * @returns to be called once, when the connection is over
   */
  admit(socket: Socket, address: string | undefined): (() => void) | undefined {
    const source = address === undefined ? undefined : sourceOf(address);
    const count = source === undefined ? 0 : (this.#perSource.get(source) ?? 0);
    if (this.#open >= this.#limits.connections || count >= this.#limits.connectionsPerSource) {
      socket.destroy();
      return undefined;
    }
    this.#open += 1;
    if (source !== undefined) this.#perSource.set(source, count + 1);
    return () => {
      this.#open -= 1;
      if (source === undefined) return;
      const left = (this.#perSource.get(source) ?? 1) - 1;
      if (left === 0) this.#perSource.delete(source);
      else this.#perSource.set(source, left);
    };
  }
}

/** One customer of IPv6 has a /64 at least. */
export function sourceOf(address: string): string {
  if (!address.includes(":")) return address;
  const [left = "", right = ""] = address.split("::");
  const first = left === "" ? [] : left.split(":");
  const last = right === "" ? [] : right.split(":");
  const zeros = address.includes("::")
    ? new Array<string>(Math.max(0, 8 - first.length - last.length)).fill("0")
    : [];
  return [...first, ...zeros, ...last].slice(0, 4).join(":");
}
