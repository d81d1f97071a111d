/**
 * How a host goes from one key to the next, seen from one host at one moment: pure.
 *
 * The region names an epoch. A host that has no key of it makes one, keeps the old one, and says so; when all peers
 * that it hears are reached by the new one, it says that it uses that; when all of them say the same, the old one has
 * no use any more and goes. A host that is gone holds nobody up: it is heard by nobody. One that the mesh hears and
 * the cluster state does not keeps the old keys alive until it is heard there too, because ending them would cut it off.
 */
import { carrier, type MeshFacts, type MeshPeer, type OwnEnd } from "./mesh-plan.ts";

export interface RotationFacts extends Pick<MeshFacts, "peers" | "isFresh"> {
  readonly ends: readonly Pick<OwnEnd, "epoch">[];
  /** The epoch that the region wants. */
  readonly wanted: number;
}

export interface RotationStep {
  /** A key to be made. */
  readonly add?: number;
  /** The epoch by which this host sends all that it sends. */
  readonly uses: number;
  /** Keys that nobody uses any more. */
  readonly retire: readonly number[];
  /** Nodes that have not changed over yet, and are heard. */
  readonly waitsFor: readonly string[];
}

/** One key at a time: a host in the middle of a rotation ends it before it begins another. */
export function planRotation({ ends, peers, isFresh, wanted }: RotationFacts): RotationStep {
  const epochs = ends.map(({ epoch }) => epoch).sort((a, b) => a - b);
  const [oldest] = epochs;
  const newest = epochs.at(-1);
  if (oldest === undefined || newest === undefined)
    return { add: wanted, uses: wanted, retire: [], waitsFor: [] };
  if (oldest === newest) {
    const add = wanted > newest ? { add: wanted } : {};
    return { ...add, uses: newest, retire: [], waitsFor: [] };
  }
  const heard = (peer: MeshPeer): boolean =>
    epochs.some((epoch) => isOn(peer, epoch) && isFresh(peer, epoch));
  const own = { ends: ends as readonly OwnEnd[], isFresh };
  const behind = peers.filter((peer) => heard(peer) && carrier(own, peer) !== newest);
  if (behind.length > 0) return { uses: oldest, retire: [], waitsFor: behind.map(({ node }) => node) };
  const still = peers.filter((peer) => heard(peer) && peer.uses < newest);
  if (still.length > 0) return { uses: newest, retire: [], waitsFor: still.map(({ node }) => node) };
  return { uses: newest, retire: epochs.filter((epoch) => epoch < newest), waitsFor: [] };
}

const isOn = ({ ends }: MeshPeer, epoch: number): boolean => ends.some((end) => end.epoch === epoch);
