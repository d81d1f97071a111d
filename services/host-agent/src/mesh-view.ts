/** The other hosts of the region as the mesh sees them, and what is said of them: pure. */
import {
  factKeys,
  type MeshFact,
  type MeshPeerState,
  type MeshPeerStatus,
  type NodeKeyFact,
  parseMeshFact,
} from "@hearth/machine";
import {
  type ClusterPrefix,
  carrier,
  hostPrefix,
  type MeshPeer,
  meshLinkName,
  type ObservedLink,
  type ObservedPeer,
  type OwnEnd,
} from "@hearth/network";
import { type MeshWatch, silentAfterMs } from "./mesh-watch.ts";

/**
 * Who is in the region is what the region says, and so are a host's number and address; of what a host says itself, its
 * keys count. A host that others cannot reach, or that has said nothing that can be understood, has no ends.
 */
export function peersOf(
  self: string,
  keys: readonly NodeKeyFact[],
  facts: readonly { readonly key: string; readonly value: unknown }[],
): MeshPeer[] {
  // By the key, under which the bus lets nobody else write; what is in the value anybody may say.
  const said = new Map(facts.map(({ key, value }) => [key, parseMeshFact(value)]));
  return keys
    .filter(({ node_id, address }) => node_id !== self && !/^(127\.|::1$)/.test(address))
    .map(({ node_id, host_number, address }) =>
      peer(node_id, host_number, address, said.get(factKeys.mesh(node_id))),
    )
    .sort((a, b) => a.host - b.host);
}

const peer = (node: string, host: number, address: string, fact: MeshFact | undefined): MeshPeer => ({
  ...{ node, host, address, mtu: fact?.mtu ?? 1280, uses: fact?.uses ?? 0 },
  ends: (fact?.ends ?? []).map(({ epoch, public_key, port }) => ({ epoch, publicKey: public_key, port })),
});

export interface PeerFacts {
  readonly node: string;
  readonly prefix: ClusterPrefix;
  readonly ends: readonly OwnEnd[];
  readonly links: readonly ObservedLink[];
  readonly watch: Pick<MeshWatch, "handshakeAgeMs" | "heardAgeMs" | "isFresh">;
}

export function describePeer(facts: PeerFacts, one: MeshPeer): MeshPeerStatus {
  const { node, prefix, ends, links, watch } = facts;
  const isFresh = (to: MeshPeer, epoch: number): boolean =>
    watch.isFresh(meshLinkName(node, epoch), keyOn(to, epoch));
  const epoch = carrier({ ends, isFresh }, one);
  const sessions = one.ends.flatMap(({ epoch: own, publicKey }) => {
    const link = links.find(({ name }) => name === meshLinkName(node, own));
    const found = link?.peers.find((known) => known.publicKey === publicKey);
    return link === undefined || found === undefined ? [] : [{ epoch: own, link: link.name, found }];
  });
  const carries = sessions.find((session) => session.epoch === epoch);
  const ages = sessions.map(({ link, found }) => watch.heardAgeMs(link, found.publicKey));
  const heard = Math.min(...ages.map((age) => age ?? Number.POSITIVE_INFINITY));
  const handshakes = sessions.map(({ link, found }) => watch.handshakeAgeMs(link, found.publicKey));
  const handshake = Math.min(...handshakes.map((age) => age ?? Number.POSITIVE_INFINITY));
  return {
    node_id: one.node,
    state: stateOf({ hasKey: epoch !== undefined, handshake, heard }),
    endpoint: carries?.found.endpoint ?? null,
    prefix: hostPrefix(prefix, one.host),
    public_key: carries?.found.publicKey ?? null,
    epoch: epoch ?? null,
    mtu: epoch === undefined ? null : one.mtu,
    latest_handshake_age_ms: finite(handshake),
    heard_age_ms: finite(heard),
    rx_bytes: sum(sessions, ({ rxBytes }) => rxBytes),
    tx_bytes: sum(sessions, ({ txBytes }) => txBytes),
  };
}

interface Ages {
  readonly hasKey: boolean;
  readonly handshake: number;
  readonly heard: number;
}

/** An agent that has just started has heard nobody yet, and takes a session of a moment ago for a sign of life. */
export function stateOf({ hasKey, handshake, heard }: Ages): MeshPeerState {
  if (!hasKey) return "no_key";
  if (!Number.isFinite(handshake)) return "connecting";
  return Math.min(heard, handshake) < silentAfterMs ? "connected" : "silent";
}

export const keyOn = ({ ends }: MeshPeer, epoch: number): string =>
  ends.find((end) => end.epoch === epoch)?.publicKey ?? "";

const finite = (age: number): number | null => (Number.isFinite(age) ? Math.round(age) : null);

const sum = (
  sessions: readonly { readonly found: ObservedPeer }[],
  of: (peer: ObservedPeer) => number,
): number => sessions.reduce((total, { found }) => total + of(found), 0);
