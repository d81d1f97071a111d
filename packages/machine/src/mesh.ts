/**
 * The mesh as hosts and the API tell each other of it. A key belongs to an epoch, which the region counts up to have
 * all keys made anew; while that goes on a host has two, and `uses` says by which it sends.
 */
import Type from "typebox";
import Value from "typebox/value";

/** Room for four digits to the base 36 in the name of an interface. */
const epoch = Type.Integer({ minimum: 1, maximum: 36 ** 4 - 1 });
const publicKey = Type.String({ pattern: "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$" });

/** Owned by the host. Other hosts take its address and its /64 from what the region says of it, not from here. */
export const MeshFact = Type.Object({
  node_id: Type.String({ maxLength: 64 }),
  /** What its guests' addresses begin with. */
  prefix: Type.String({ maxLength: 64 }),
  /** Its own address there. */
  address: Type.String({ maxLength: 64 }),
  /** Of its underlay. */
  underlay: Type.String({ maxLength: 64 }),
  mtu: Type.Integer({ minimum: 1280, maximum: 65_535 }),
  ends: Type.Array(
    Type.Object({
      epoch,
      public_key: publicKey,
      port: Type.Integer({ minimum: 1, maximum: 65_535 }),
    }),
    { minItems: 1, maxItems: 4 },
  ),
  uses: epoch,
});
export type MeshFact = Type.Static<typeof MeshFact>;

/** Undefined for what no host of this version says. */
export const parseMeshFact = (value: unknown): MeshFact | undefined =>
  Value.Check(MeshFact, value) ? value : undefined;

/** Owned by the API; without one the epoch is the first. */
export const MeshEpochFact = Type.Object({ epoch, wanted_at_ms: Type.Integer() });
export type MeshEpochFact = Type.Static<typeof MeshEpochFact>;

export const firstMeshEpoch = 1;

export const meshEpochOf = (value: unknown): number =>
  Value.Check(MeshEpochFact, value) ? value.epoch : firstMeshEpoch;

/**
 * connected: it has been heard within the last seconds.
 * silent: it was heard once, and is not now.
 * connecting: no key has been agreed on yet.
 * no_key: it has told no key that this host has one to.
 */
export const meshPeerStates = ["connected", "silent", "connecting", "no_key"] as const;
export type MeshPeerState = (typeof meshPeerStates)[number];

const number = Type.Union([Type.Number(), Type.Null()]);
const text = Type.Union([Type.String(), Type.Null()]);

export const MeshPeerStatus = Type.Object({
  node_id: Type.String(),
  state: Type.Enum([...meshPeerStates]),
  /** Where packets to it go. */
  endpoint: text,
  prefix: Type.String(),
  public_key: text,
  epoch: number,
  mtu: number,
  /** Null while there was none. */
  latest_handshake_age_ms: number,
  /** Since anything came from it; null when nothing did while the host's agent ran. */
  heard_age_ms: number,
  rx_bytes: Type.Number(),
  tx_bytes: Type.Number(),
});
export type MeshPeerStatus = Type.Static<typeof MeshPeerStatus>;

export const MeshNodeStatus = Type.Object({
  node_id: Type.String(),
  /** off: other hosts do not reach this one. alone: there is no other host. */
  state: Type.Enum(["up", "alone", "off", "failing", "unreachable"]),
  /** What hinders it. */
  problem: text,
  driver: Type.Union([Type.Enum(["kernel", "wireguard-go"]), Type.Null()]),
  address: text,
  prefix: text,
  endpoint: text,
  mtu: number,
  epoch: number,
  /** The epochs that it has keys of; two during a rotation. */
  epochs: Type.Array(Type.Integer()),
  /** The nodes that a rotation waits for, as this one sees it. */
  waits_for: Type.Array(Type.String()),
  peers: Type.Array(MeshPeerStatus),
});
export type MeshNodeStatus = Type.Static<typeof MeshNodeStatus>;

/** Of a node of which nothing more can be said. */
export const meshNodeWithout = (
  node_id: string,
  state: MeshNodeStatus["state"],
  problem: string | null,
): MeshNodeStatus => ({
  ...{ node_id, state, problem, driver: null, address: null, prefix: null, endpoint: null, mtu: null },
  ...{ epoch: null, epochs: [], waits_for: [], peers: [] },
});

/**
 * none: no host is reached by another.
 * rotating: hosts that answer have keys of more than one epoch, or not yet of the one that is wanted.
 */
export const MeshStatus = Type.Object({
  state: Type.Enum(["none", "steady", "rotating"]),
  /** The one that the region wants. */
  epoch: Type.Integer(),
  nodes: Type.Array(MeshNodeStatus),
});
export type MeshStatus = Type.Static<typeof MeshStatus>;

export const parseMeshNodeStatus = (value: unknown): MeshNodeStatus | undefined =>
  Value.Check(MeshNodeStatus, value) ? value : undefined;
