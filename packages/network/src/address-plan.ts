/**
 * Addresses of machines, as arithmetic.
 *
 *   IPv6: cluster ULA /48 | host 16 bits | network 32 bits | machine 32 bits   (a host is one /64)
 *   IPv4: one address of 100.64.0.0/10 a machine, only for egress through NAT; it means nothing off its host
 *
 * Network bits at a fixed place let one firewall rule compare the networks of source and destination.
 * Machines 0 and 1 of a network are kept back for the host; network 0 is the host's own, and its machine 1 is the host.
 */
import { createHash } from "node:crypto";
import { isIPv6 } from "node:net";
import { HearthError } from "@hearth/errors";

/** The 48 bits that all addresses of a cluster begin with; the first 8 are fd (RFC 4193). */
export type ClusterPrefix = bigint & { readonly __brand: "ClusterPrefix" };

export interface MachineAddress {
  readonly prefix: ClusterPrefix;
  /** 0..2^16-1 */
  readonly host: number;
  /** 0..2^32-1 */
  readonly network: number;
  /** 0..2^32-1 */
  readonly machine: number;
}

/** A region's first host; 0 is nobody's and is kept for what every host serves itself. */
export const firstHost = 1;
export const firstMachine = 2;
const limit16 = 2 ** 16;
const limit32 = 2 ** 32;

/** @throws HearthError `invalid_argument` for what is not `fdxx:xxxx:xxxx::/48` */
export function parseClusterPrefix(text: string): ClusterPrefix {
  const [address = "", length] = text.split("/");
  if (length === "48" && isIPv6(address) && !address.includes("%")) {
    const value = parseIpv6(address);
    if (value >> 120n === 0xfdn && (value & ((1n << 80n) - 1n)) === 0n)
      return (value >> 80n) as ClusterPrefix;
  }
  throw new HearthError("invalid_argument", {
    message: "A cluster prefix is a /48 of fd00::/8, such as fd12:3456:789a::/48.",
    details: { field: "cluster_prefix" },
  });
}

/** A prefix out of 40 random bits, as RFC 4193 section 3.2 asks. */
export function newClusterPrefix(randomBytes: (length: number) => Uint8Array): ClusterPrefix {
  return BigInt(`0xfd${Buffer.from(randomBytes(5)).toString("hex")}`) as ClusterPrefix;
}

export const formatClusterPrefix = (prefix: ClusterPrefix): string => `${formatIpv6(prefix << 80n)}/48`;

/** The /64 of a host: what the mesh routes to it. */
export function hostPrefix(prefix: ClusterPrefix, host: number): string {
  return `${formatIpv6((prefix << 80n) | (field(host, limit16, "host") << 64n))}/64`;
}

/** Where other hosts reach the host itself, over the mesh. */
export const hostAddress = (prefix: ClusterPrefix, host: number): string =>
  formatMachineAddress({ prefix, host, network: 0, machine: 1 });

/**
 * Where every guest asks for names: one address in the whole cluster, which each host has for itself. It lies in the
 * network of hosts and belongs to no host (numbers of hosts begin at 1), so no mesh carries it.
 */
export const resolverAddress = (prefix: ClusterPrefix): string =>
  formatMachineAddress({ prefix, host: 0, network: 0, machine: 3 });

export function formatMachineAddress({ prefix, host, network, machine }: MachineAddress): string {
  const bits =
    (prefix << 80n) |
    (field(host, limit16, "host") << 64n) |
    (field(network, limit32, "network") << 32n) |
    field(machine, limit32, "machine");
  return formatIpv6(bits);
}

/** @throws HearthError `invalid_argument` for what is no IPv6 address */
export function parseMachineAddress(text: string): MachineAddress {
  if (!isIPv6(text) || text.includes("%"))
    throw new HearthError("invalid_argument", {
      message: "This is not an IPv6 address.",
      details: { field: "address" },
    });
  const value = parseIpv6(text);
  return {
    prefix: (value >> 80n) as ClusterPrefix,
    host: Number((value >> 64n) & 0xffffn),
    network: Number((value >> 32n) & 0xffffffffn),
    machine: Number(value & 0xffffffffn),
  };
}

/**
 * The smallest free number of a host.
 * @throws HearthError `network_exhausted`
 */
export function nextHostNumber(taken: ReadonlySet<number>, limit = limit16): number {
  return nextFree(taken, { first: firstHost, limit, from: firstHost });
}

/**
 * The first free number from `from` on, so that a number is reused as late as the caller's cursor allows.
 * @throws HearthError `network_exhausted`
 */
export function nextMachineNumber(taken: ReadonlySet<number>, from = firstMachine, limit = limit32): number {
  return nextFree(taken, { first: firstMachine, limit, from });
}

// Each machine owns a /31 of 100.64.0.0/10 (RFC 3021): the even address is the host's, the odd one the guest's.
const egressBase = 0x64400000;
export const egressSlots = 2 ** 21;

export interface EgressPair {
  readonly hostV4: string;
  readonly guestV4: string;
  readonly prefixLength: 31;
}

/** The pair of IPv4 addresses of a slot (0..egressSlots-1). */
export function egressPair(slot: number): EgressPair {
  const base = egressBase + Number(field(slot, egressSlots, "slot")) * 2;
  return { hostV4: formatIpv4(base), guestV4: formatIpv4(base + 1), prefixLength: 31 };
}

/** The slot of an egress address, of either side; undefined for any other address. */
export function egressSlot(address: string): number | undefined {
  const parts = address.split(".").map(Number);
  if (parts.length !== 4 || parts.some((part) => !(Number.isInteger(part) && part >= 0 && part < 256)))
    return undefined;
  const slot = Math.floor((parts.reduce((value, part) => value * 256 + part, 0) - egressBase) / 2);
  return slot >= 0 && slot < egressSlots ? slot : undefined;
}

/** Slot 0 holds 100.64.0.0, which some stacks treat as a network address, so it is never given out. */
export function nextEgressSlot(taken: ReadonlySet<number>, from = 1, limit = egressSlots): number {
  return nextFree(taken, { first: 1, limit, from });
}

/** The 32 network bits of a network's name, for a cluster that keeps no table of networks. Never 0. */
export function networkNumber(name: string): number {
  return createHash("sha256").update(name).digest().readUInt32BE(0) || 1;
}

interface Search {
  readonly first: number;
  readonly limit: number;
  readonly from: number;
}

function nextFree(taken: ReadonlySet<number>, { first, limit, from }: Search): number {
  for (let candidate = Math.max(first, from); candidate < limit; candidate += 1)
    if (!taken.has(candidate)) return candidate;
  for (let candidate = first; candidate < Math.min(from, limit); candidate += 1)
    if (!taken.has(candidate)) return candidate;
  throw new HearthError("network_exhausted");
}

function field(value: number, limit: number, name: string): bigint {
  if (Number.isInteger(value) && value >= 0 && value < limit) return BigInt(value);
  throw new HearthError("invalid_argument", {
    message: `The ${name} number of an address is between 0 and ${limit - 1}.`,
    details: { field: name },
  });
}

const formatIpv4 = (value: number): string =>
  [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join(".");

/** @param text what is an IPv6 address */
export function parseIpv6(text: string): bigint {
  const [head = "", tail] = dottedTailAsHex(text).split("::");
  const groups = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const zeros = Array<string>(8 - left.length - right.length).fill("0");
  return [...left, ...zeros, ...right].reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n);
}

function dottedTailAsHex(text: string): string {
  const dotted = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  if (dotted === null) return text;
  const [a = 0, b = 0, c = 0, d = 0] = dotted.slice(1).map(Number);
  return `${text.slice(0, dotted.index)}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
}

/** The one text of an address that RFC 5952 recommends. */
export function formatIpv6(value: bigint): string {
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((value >> BigInt(112 - index * 16)) & 0xffffn).toString(16),
  );
  const full = groups.join(":");
  const runs = [...full.matchAll(/\b0(?::0)+\b/g)].sort(
    (a, b) => b[0].length - a[0].length || a.index - b.index,
  );
  const longest = runs[0];
  if (longest === undefined) return full;
  const head = full.slice(0, longest.index).replace(/:$/, "");
  const tail = full.slice(longest.index + longest[0].length).replace(/^:/, "");
  return `${head}::${tail}`;
}
