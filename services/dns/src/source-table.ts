/**
 * Who asks: the network of a guest of this host, by its address, or the host itself. Nobody else is answered, so that
 * this is no open resolver, whatever the firewall lets through. The 32 network bits of a guest's address say what it
 * may see; the firewall sees to it that a guest sends from its own address only.
 */
import { networkInterfaces } from "node:os";
import { parseMachineAddress } from "@hearth/network";
import { AnswerCache } from "./answer-cache.ts";
import type { NameIndex } from "./name-index.ts";
import type { NetworkView } from "./network-view.ts";
import { guestLimits, hostLimits, type SourceLimits } from "./source-limits.ts";

interface Place {
  readonly view: NetworkView;
  readonly limits: SourceLimits;
  /** Of a guest's own address, which says by itself whose it is; of one that it has in IPv4; or of the host. */
  readonly kind: "guest" | "egress" | "host";
}

export interface Source extends Place {
  readonly address: string;
  readonly cache: AnswerCache;
  /** Queries that it may ask now, as of `refilledAtMs`. */
  credit: number;
  refilledAtMs: number;
  inFlight: number;
  tcpConnections: number;
  isForgotten: boolean;
}

export interface SourceTableOptions {
  readonly index: NameIndex;
  /** ULA /48 of the cluster, as a number. */
  readonly prefix: bigint;
  readonly hostNumber: number;
  readonly hostAddresses?: () => ReadonlySet<string>;
  readonly guestLimits?: SourceLimits;
  readonly monotonicMs?: () => number;
}

/** There are no more guests on a host; beyond it those are forgotten that have been silent. */
const maxSources = 16_384;
/** Taps come and go with machines: how often the host's addresses are read while it asks, and for a new asker. */
const addressesMs = 5_000;
const unknownAddressMs = 1_000;

export class SourceTable {
  readonly #options: SourceTableOptions;
  readonly #sources = new Map<string, Source>();
  readonly #caches = new Map<NetworkView, AnswerCache>();
  readonly #now: () => number;
  #hostAddresses: ReadonlySet<string> = new Set();
  #hostAddressesAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SourceTableOptions) {
    this.#options = options;
    this.#now = options.monotonicMs ?? (() => performance.now());
  }

  /** Undefined for whoever is not to be answered. @param address without a zone */
  find(address: string): Source | undefined {
    const known = this.#sources.get(address);
    if (known !== undefined) {
      if (this.holds(known)) return known;
      this.#forget(known);
    }
    const place = this.#placeOf(address);
    return place === undefined ? undefined : this.#admit(address, place);
  }

  /** Whether what `find` said is still so. An address that is no guest's own can be somebody else's by now. */
  holds(source: Source): boolean {
    if (source.kind === "guest") return !source.isForgotten;
    const { address, view } = source;
    const { index } = this.#options;
    const network = index.networkOfEgress(address);
    const isSame =
      source.kind === "egress"
        ? network !== undefined && index.view(network) === view
        : network === undefined && this.#isHost(address);
    return isSame && !source.isForgotten;
  }

  /** Whether it may ask once more now, which it then has. */
  spend(source: Source): boolean {
    const { queriesPerSecond, burst } = source.limits;
    if (queriesPerSecond === Number.POSITIVE_INFINITY) return true;
    if (source.credit < 1) {
      const now = this.#now();
      source.credit = Math.min(
        burst,
        source.credit + ((now - source.refilledAtMs) / 1_000) * queriesPerSecond,
      );
      source.refilledAtMs = now;
      if (source.credit < 1) return false;
    }
    source.credit -= 1;
    return true;
  }

  #admit(address: string, place: Place): Source {
    if (this.#sources.size >= maxSources) this.#forgetIdle();
    const source: Source = {
      ...{ ...place, address, cache: this.#cacheOf(place.view) },
      ...{ credit: place.limits.burst, refilledAtMs: this.#now(), inFlight: 0 },
      ...{ tcpConnections: 0, isForgotten: false },
    };
    this.#sources.set(address, source);
    return source;
  }

  #placeOf(address: string): Place | undefined {
    // Of a link: every guest may send from such an address, and it says nothing of whose it is.
    if (address.includes("%")) return undefined;
    const { index, guestLimits: limits = guestLimits } = this.#options;
    const kind = address.includes(":") ? "guest" : "egress";
    const network = kind === "guest" ? this.#guestNetwork(address) : index.networkOfEgress(address);
    if (network !== undefined) return { view: index.view(network), limits, kind };
    return this.#isHost(address) ? { view: index.host, limits: hostLimits, kind: "host" } : undefined;
  }

  /** Network 0 is the host's own. */
  #guestNetwork(address: string): number | undefined {
    const { prefix, host, network } = parseMachineAddress(address);
    const isGuest = prefix === this.#options.prefix && host === this.#options.hostNumber && network !== 0;
    return isGuest ? network : undefined;
  }

  #isHost(address: string): boolean {
    const age = this.#now() - this.#hostAddressesAtMs;
    const isKnown = this.#hostAddresses.has(address);
    if (age < (isKnown ? addressesMs : unknownAddressMs)) return isKnown;
    this.#hostAddressesAtMs = this.#now();
    this.#hostAddresses = (this.#options.hostAddresses ?? ownAddresses)();
    return this.#hostAddresses.has(address);
  }

  #cacheOf(view: NetworkView): AnswerCache {
    const known = this.#caches.get(view);
    if (known !== undefined) return known;
    const { index } = this.#options;
    // Both only grow, so no two states have one sum.
    const cache = new AnswerCache(() => view.version + index.version);
    this.#caches.set(view, cache);
    return cache;
  }

  #forgetIdle(): void {
    for (const source of this.#sources.values())
      if (source.inFlight === 0 && source.tcpConnections === 0) this.#forget(source);
  }

  #forget(source: Source): void {
    source.isForgotten = true;
    this.#sources.delete(source.address);
  }
}

/** Not those of a link, which mean another host on each: a guest's gateway has the same one on every tap. */
function ownAddresses(): ReadonlySet<string> {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return new Set(all.map(({ address }) => address).filter((address) => !address.startsWith("fe80:")));
}
