/**
 * What one host needs of its network to be part of the mesh, from facts: WireGuard interfaces, their peers, and routes
 * to the other hosts. Pure; the executor applies it.
 *
 * A key belongs to an epoch of the region, and each epoch that a host has a key of is an interface of its own: one
 * when all is quiet, two while keys are rotated. Both take what peers send, so each host moves its own routes from the
 * old to the new one when the new one works, and nothing is lost between.
 *
 * What holds: a peer may send from its own /64 only; the /64 follows from the number that the region gave the host,
 * never from what the host says; what is meant for a host that is not there goes nowhere, and not to the Internet.
 */
import { createHash } from "node:crypto";
import { HearthError } from "@hearth/errors";
import { type ClusterPrefix, formatClusterPrefix, hostAddress, hostPrefix } from "./address-plan.ts";

/** A key of a host that can be reached. */
export interface MeshEnd {
  readonly epoch: number;
  /** Base64, as WireGuard writes it. */
  readonly publicKey: string;
  /** UDP. */
  readonly port: number;
}

export interface OwnEnd extends MeshEnd {
  /** The file of the private key. */
  readonly keyPath: string;
}

export interface MeshPeer {
  readonly node: string;
  readonly host: number;
  /** Of the underlay. */
  readonly address: string;
  /** What its own mesh interface takes. */
  readonly mtu: number;
  readonly ends: readonly MeshEnd[];
  /** The epoch by which it sends all that it sends. */
  readonly uses: number;
}

export interface MeshFacts {
  readonly node: string;
  readonly prefix: ClusterPrefix;
  readonly host: number;
  readonly underlay: Underlay;
  readonly ends: readonly OwnEnd[];
  readonly peers: readonly MeshPeer[];
  /** Whether the two have agreed on keys of an epoch lately. */
  readonly isFresh: (peer: MeshPeer, epoch: number) => boolean;
}

/** What carries the mesh. */
export interface Underlay {
  readonly address: string;
  readonly mtu: number;
}

export interface MeshLink {
  readonly name: string;
  readonly epoch: number;
  readonly mtu: number;
  readonly port: number;
  readonly publicKey: string;
  readonly keyPath: string;
  /** Of the host, the same on each of its links. */
  readonly address: string;
  readonly peers: readonly LinkPeer[];
}

export interface LinkPeer {
  readonly node: string;
  readonly publicKey: string;
  /** `address:port`, an IPv6 address in brackets. */
  readonly endpoint: string;
  /** The only one from which it may send. */
  readonly allowedIp: string;
}

export interface MeshRoute {
  readonly to: string;
  readonly dev: string;
  readonly mtu: number;
  /**
   * Less than the link takes. Linux 6.18 heeds that for what it forwards in any case, older ones as far as their source
   * tells only when it is locked, which has them heed no message from further on; so it is locked only then.
   */
  readonly isNarrow: boolean;
}

export interface MeshPlan {
  readonly node: string;
  readonly address: string;
  /** Unreachable where no route says otherwise. */
  readonly cluster: string;
  readonly links: readonly MeshLink[];
  readonly routes: readonly MeshRoute[];
}

/** In seconds. Opens the way through a firewall, and has a host that was restarted be heard at once. */
export const keepaliveSeconds = 10;
/** The least that IPv6 may have to go through (RFC 8200 section 5). */
const leastMtu = 1280;
/**
 * WireGuard fills packets up to whole blocks, and wireguard-go heeds only the MTU of the interface in that: what fits a
 * route exactly would be too big outside.
 */
const paddingBlock = 16;
const nameLimit = 15;

/** Of all interfaces of a node's mesh; nothing else has it, no tap either. */
export const meshPrefix = (node: string): string =>
  `hwg${createHash("sha256").update(`mesh\0${node}`).digest("hex").slice(0, 7)}-`;

/** @throws HearthError `invalid_argument` for an epoch that no name has room for */
export function meshLinkName(node: string, epoch: number): string {
  const name = `${meshPrefix(node)}${epoch.toString(36)}`;
  if (Number.isInteger(epoch) && epoch > 0 && name.length <= nameLimit) return name;
  throw new HearthError("invalid_argument", {
    message: "An epoch of the mesh is a positive number of at most four digits to the base 36.",
    details: { field: "epoch" },
  });
}

/** A packet in a tunnel is 32 bytes of WireGuard, 8 of UDP, and the outer IP header longer: 60 or 80. */
export const meshMtu = ({ address, mtu }: Underlay): number =>
  Math.max(leastMtu, mtu - (address.includes(":") ? 80 : 60));

export function planMesh(facts: MeshFacts): MeshPlan {
  const { node, prefix, host, ends, peers } = facts;
  const mtu = meshMtu(facts.underlay);
  const address = hostAddress(prefix, host);
  const reachable = onePeerAKey(peers.filter((peer) => peer.host !== host && peer.node !== node));
  return {
    node,
    address,
    cluster: formatClusterPrefix(prefix),
    links: ends.map(({ epoch, publicKey, port, keyPath }) => ({
      ...{ name: meshLinkName(node, epoch), epoch, mtu, port, publicKey, keyPath, address },
      peers: reachable.flatMap((peer) => linkPeer(prefix, peer, epoch)),
    })),
    routes: reachable.flatMap((peer) => {
      const epoch = carrier(facts, peer);
      if (epoch === undefined) return [];
      const dev = meshLinkName(node, epoch);
      const isNarrow = peer.mtu < mtu;
      const wholeBlocks = Math.floor(peer.mtu / paddingBlock) * paddingBlock;
      const most = isNarrow ? Math.max(leastMtu, wholeBlocks) : mtu;
      return [{ to: hostPrefix(prefix, peer.host), dev, mtu: most, isNarrow: most < mtu }];
    }),
  };
}

/** The epoch by which a host sends to a peer: the newest that works, or the newest of both when none does yet. */
export function carrier(
  { ends, isFresh }: Pick<MeshFacts, "ends" | "isFresh">,
  peer: MeshPeer,
): number | undefined {
  const common = ends
    .map(({ epoch }) => epoch)
    .filter((epoch) => peer.ends.some((end) => end.epoch === epoch))
    .sort((a, b) => b - a);
  return common.find((epoch) => isFresh(peer, epoch)) ?? common[0];
}

function linkPeer(prefix: ClusterPrefix, peer: MeshPeer, epoch: number): LinkPeer[] {
  const end = peer.ends.find((one) => one.epoch === epoch);
  if (end === undefined) return [];
  const { node, host, address } = peer;
  const endpoint = `${address.includes(":") ? `[${address}]` : address}:${end.port}`;
  return [{ node, publicKey: end.publicKey, endpoint, allowedIp: hostPrefix(prefix, host) }];
}

/** One key is one peer to WireGuard. Who says another's key has no private key to it, and would only cut that one off. */
function onePeerAKey(peers: readonly MeshPeer[]): MeshPeer[] {
  const owners = new Map<string, MeshPeer>();
  const inOrder = peers.toSorted((a, b) => a.host - b.host);
  for (const peer of inOrder)
    for (const { publicKey } of peer.ends) if (!owners.has(publicKey)) owners.set(publicKey, peer);
  const hosts = new Set<number>();
  return inOrder.filter((peer) => {
    const isSole =
      peer.ends.every(({ publicKey }) => owners.get(publicKey) === peer) && !hosts.has(peer.host);
    if (isSole) hosts.add(peer.host);
    return isSole;
  });
}
