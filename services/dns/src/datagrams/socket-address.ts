/** Addresses as the kernel has them, eight words each (`sockaddr_in` and `sockaddr_in6` of Linux), and as text. */
import { SocketAddress } from "node:net";
import { parseIpv6 } from "@hearth/network";
import { addressWords } from "./lanes.ts";

export const families = { ipv4: 2, ipv6: 10 } as const;

const swapped = (word: number): number =>
  ((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);

/** As Node says it, without the port; the zone of an address of a link is the number of the link. */
export function addressText(words: Int32Array, at: number): string {
  const word = (index: number): number => swapped(words[at + index] ?? 0) >>> 0;
  if (((words[at] ?? 0) & 0xffff) === families.ipv4)
    return [24, 16, 8, 0].map((shift) => (word(1) >>> shift) & 255).join(".");
  const groups = [2, 3, 4, 5].flatMap((index) => [word(index) >>> 16, word(index) & 0xffff]);
  const full = groups.map((group) => group.toString(16)).join(":");
  const { address } = new SocketAddress({ address: full, family: "ipv6" });
  const zone = words[at + 6] ?? 0;
  return zone === 0 ? address : `${address}%${zone}`;
}

export const addressPort = (words: Int32Array, at: number): number => swapped(words[at] ?? 0) & 0xffff;

/** The port is of the network's order, and the family before it of the host's. */
export function writePort(words: Int32Array, at: number, port: number): void {
  words[at] = ((words[at] ?? 0) & 0xffff) | ((port & 0xff) << 24) | ((port & 0xff00) << 8);
}

/** @param address without a zone @param zone the number of a link, or 0 */
export function writeAddress(
  words: Int32Array,
  at: number,
  { address, port, zone = 0 }: { readonly address: string; readonly port: number; readonly zone?: number },
): void {
  words.fill(0, at, at + addressWords);
  const isIpv4 = !address.includes(":");
  words[at] = isIpv4 ? families.ipv4 : families.ipv6;
  writePort(words, at, port);
  if (isIpv4) {
    words[at + 1] = swapped(address.split(".").reduce((value, part) => (value << 8) | Number(part), 0));
    return;
  }
  const value = parseIpv6(address);
  for (let index = 0; index < 4; index += 1)
    words[at + 2 + index] = swapped(Number((value >> BigInt(96 - 32 * index)) & 0xffff_ffffn));
  words[at + 6] = zone;
}

/**
 * What is known of an address, whatever its port, found without making its text: of one family, as a socket has. Two
 * that fall on one place put each other out, which costs a look-up elsewhere and nothing more.
 */
export class AddressMap<T extends object> {
  readonly #entries = new Map<number, { readonly words: Int32Array; readonly value: T }>();
  readonly #maxEntries: number;

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  get(words: Int32Array, at: number): T | undefined {
    const entry = this.#entries.get(placeOf(words, at));
    if (entry === undefined) return undefined;
    const known = entry.words;
    // All but the first, which has the port: no map is asked about both families. What is no part of an address is 0.
    for (let index = 1; index < addressWords - 1; index += 1)
      if (known[index] !== words[at + index]) return undefined;
    return entry.value;
  }

  set(words: Int32Array, at: number, value: T): void {
    if (this.#entries.size >= this.#maxEntries) this.#entries.clear();
    this.#entries.set(placeOf(words, at), { words: words.slice(at, at + addressWords), value });
  }

  clear(): void {
    this.#entries.clear();
  }
}

/** Guests do not choose their addresses, so nobody can make many fall on one place. */
function placeOf(words: Int32Array, at: number): number {
  let place = (words[at + 1] ?? 0) ^ (words[at + 2] ?? 0);
  place = Math.imul(place ^ (words[at + 3] ?? 0), 0x9e3779b1);
  place = Math.imul(place ^ (place >>> 15) ^ (words[at + 4] ?? 0), 0x85ebca6b);
  return Math.imul(place ^ (place >>> 13) ^ (words[at + 5] ?? 0), 0xc2b2ae35);
}
