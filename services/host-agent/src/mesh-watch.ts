/**
 * Who is heard over the mesh, from the counters that WireGuard keeps. Ages are measured on this process's monotonic
 * clock from when a counter was seen to change; only what is older than this process goes by the wall clock.
 */
import type { ObservedLink } from "@hearth/network";

interface Seen {
  handshakeAtSeconds: number;
  /** Of the monotonic clock. */
  handshakeMs: number;
  rxBytes: number;
  heardMs: number | undefined;
}

export interface WatchClock {
  readonly monotonicMs: () => number;
  readonly wallMs: () => number;
}

/** WireGuard throws a session away that is older (section 6.1 of its paper: Reject-After-Time). */
const sessionLimitMs = 180_000;
/** Each host sends each other something every few seconds, and WireGuard answers within ten. */
export const silentAfterMs = 20_000;

export class MeshWatch {
  readonly #clock: WatchClock;
  #seen = new Map<string, Seen>();

  constructor(clock: WatchClock = { monotonicMs: () => performance.now(), wallMs: Date.now }) {
    this.#clock = clock;
  }

  note(links: readonly ObservedLink[]): void {
    const nowMs = this.#clock.monotonicMs();
    const before = this.#seen;
    this.#seen = new Map();
    for (const { name, peers } of links)
      for (const { publicKey, handshakeAtSeconds, rxBytes } of peers) {
        const key = keyOf(name, publicKey);
        const known = before.get(key);
        const sinceMs = Math.max(0, this.#clock.wallMs() - handshakeAtSeconds * 1000);
        const isNew = known !== undefined && known.handshakeAtSeconds !== handshakeAtSeconds;
        this.#seen.set(key, {
          handshakeAtSeconds,
          handshakeMs: known === undefined ? nowMs - sinceMs : isNew ? nowMs : known.handshakeMs,
          rxBytes,
          heardMs: known !== undefined && known.rxBytes !== rxBytes && rxBytes > 0 ? nowMs : known?.heardMs,
        });
      }
  }

  /** Undefined when there was none. */
  handshakeAgeMs(link: string, publicKey: string): number | undefined {
    const seen = this.#seen.get(keyOf(link, publicKey));
    if (seen === undefined || seen.handshakeAtSeconds === 0) return undefined;
    return this.#clock.monotonicMs() - seen.handshakeMs;
  }

  /** Undefined when it was not heard while this process ran. */
  heardAgeMs(link: string, publicKey: string): number | undefined {
    const heardMs = this.#seen.get(keyOf(link, publicKey))?.heardMs;
    return heardMs === undefined ? undefined : this.#clock.monotonicMs() - heardMs;
  }

  /** Whether the two have a session that both still take. */
  isFresh(link: string, publicKey: string): boolean {
    return (this.handshakeAgeMs(link, publicKey) ?? Number.POSITIVE_INFINITY) < sessionLimitMs;
  }
}

const keyOf = (link: string, publicKey: string): string => `${link}\0${publicKey}`;
