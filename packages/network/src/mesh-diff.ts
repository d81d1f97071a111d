/** What is to be changed on a host that has one mesh so that it has another: pure, and nothing where both are the same. */
import {
  keepaliveSeconds,
  type LinkPeer,
  type MeshLink,
  type MeshPlan,
  type MeshRoute,
} from "./mesh-plan.ts";

export interface ObservedPeer {
  readonly publicKey: string;
  readonly endpoint: string | undefined;
  readonly allowedIps: readonly string[];
  readonly keepaliveSeconds: number;
  /** Of the host's clock; 0 when there was none yet. */
  readonly handshakeAtSeconds: number;
  readonly rxBytes: number;
  readonly txBytes: number;
}

export interface ObservedLink {
  readonly name: string;
  readonly mtu: number;
  readonly isUp: boolean;
  /** Without length. */
  readonly addresses: readonly string[];
  /** Undefined while it has no key. */
  readonly publicKey: string | undefined;
  readonly port: number;
  readonly peers: readonly ObservedPeer[];
}

export interface ObservedRoute {
  readonly to: string;
  readonly dev: string;
  readonly mtu: number | undefined;
  readonly isLocked: boolean;
  readonly source: string | undefined;
}

export interface ObservedMesh {
  /** Whose names are those of this node's mesh. */
  readonly links: readonly ObservedLink[];
  /** By these links. */
  readonly routes: readonly ObservedRoute[];
  /** Whether there is a route that makes the cluster unreachable where no other leads. */
  readonly isClosed: boolean;
}

export interface MeshChanges {
  /** These are not there, and what is to be changed on them is found when they are. */
  readonly missingLinks: readonly string[];
  readonly strayLinks: readonly string[];
  /** Arguments of `wg`, in order. */
  readonly wireguard: readonly (readonly string[])[];
  /** Lines for `ip -6 -batch`, in order. */
  readonly ip: readonly string[];
}

/** A peer that has just been heard knows best where it is; one that has not is looked for where it says. */
const roamingSeconds = 180;

export function diffMesh(plan: MeshPlan, observed: ObservedMesh, nowSeconds: number): MeshChanges {
  const planned = new Set(plan.links.map(({ name }) => name));
  const there = new Map(observed.links.map((link) => [link.name, link]));
  const present = plan.links.flatMap((link) => {
    const found = there.get(link.name);
    return found === undefined ? [] : [{ link, found }];
  });
  return {
    missingLinks: plan.links.map(({ name }) => name).filter((name) => !there.has(name)),
    strayLinks: observed.links.map(({ name }) => name).filter((name) => !planned.has(name)),
    wireguard: present.flatMap(({ link, found }) => configure(link, found, nowSeconds)),
    ip: [
      ...(observed.isClosed ? [] : [`route replace unreachable ${plan.cluster}`]),
      ...present.flatMap(({ link, found }) => bringUp(link, found)),
      ...routeLines(plan, observed),
    ],
  };
}

function configure(link: MeshLink, found: ObservedLink, nowSeconds: number): string[][] {
  const own = [
    ...(found.publicKey === link.publicKey ? [] : ["private-key", link.keyPath]),
    ...(found.port === link.port ? [] : ["listen-port", String(link.port)]),
  ];
  const wanted = new Set(link.peers.map(({ publicKey }) => publicKey));
  const gone = found.peers.filter(({ publicKey }) => !wanted.has(publicKey));
  const peers = [
    ...gone.flatMap(({ publicKey }) => ["peer", publicKey, "remove"]),
    ...link.peers.flatMap((peer) => {
      const known = found.peers.find(({ publicKey }) => publicKey === peer.publicKey);
      return peerArguments(peer, known, nowSeconds);
    }),
  ];
  // A key first: who is told of a peer without one begins a handshake that cannot succeed.
  return [own, peers].filter((args) => args.length > 0).map((args) => ["set", link.name, ...args]);
}

function peerArguments(peer: LinkPeer, known: ObservedPeer | undefined, nowSeconds: number): string[] {
  const isSilent = known === undefined || nowSeconds - known.handshakeAtSeconds > roamingSeconds;
  const args = [
    ...(isSilent && known?.endpoint !== peer.endpoint ? ["endpoint", peer.endpoint] : []),
    ...(known?.allowedIps.join() === peer.allowedIp ? [] : ["allowed-ips", peer.allowedIp]),
    ...(known?.keepaliveSeconds === keepaliveSeconds
      ? []
      : ["persistent-keepalive", String(keepaliveSeconds)]),
  ];
  return args.length === 0 ? [] : ["peer", peer.publicKey, ...args];
}

function bringUp(link: MeshLink, found: ObservedLink): string[] {
  const isLike = found.mtu === link.mtu && found.isUp;
  return [
    ...(isLike ? [] : [`link set dev ${link.name} mtu ${link.mtu} up`]),
    ...(found.addresses.includes(link.address)
      ? []
      : [`addr replace ${link.address}/128 dev ${link.name} nodad`]),
  ];
}

function routeLines({ links, routes, address }: MeshPlan, observed: ObservedMesh): string[] {
  const wanted = new Set(routes.map(({ to }) => to));
  const devices = new Set(observed.links.map(({ name }) => name));
  const known = new Set(links.map(({ name }) => name));
  const added = routes
    .filter(({ dev }) => devices.has(dev))
    .filter((wanted) => !observed.routes.some((found) => isSame(wanted, found, address)))
    .map(
      ({ to, dev, mtu, isNarrow }) =>
        `route replace ${to} dev ${dev} src ${address} mtu ${isNarrow ? "lock " : ""}${mtu}`,
    );
  // Those of a link that is to go, go with it, and until then carry what the new one does not yet.
  const removed = observed.routes
    .filter(({ to, dev }) => !wanted.has(to) && known.has(dev))
    .map(({ to, dev }) => `route del ${to} dev ${dev}`);
  return [...added, ...removed];
}

const isSame = (wanted: MeshRoute, found: ObservedRoute, source: string): boolean =>
  found.to === wanted.to &&
  found.dev === wanted.dev &&
  found.mtu === wanted.mtu &&
  found.isLocked === wanted.isNarrow &&
  found.source === source;
