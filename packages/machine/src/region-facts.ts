/**
 * What a region knows of its nodes besides what they say themselves. Times on a clock of another host are for
 * people only: whoever decides by time measures it on its own monotonic clock.
 */

/**
 * The right of a node to run machines that may be started elsewhere (`restart_elsewhere`). The worker renews it by
 * compare-and-set; an API process that gives the node up takes it away by compare-and-set, so one of them wins.
 */
export interface LeaseFact {
  readonly node_id: string;
  /** Grows each time the lease is taken away. */
  readonly term: number;
  /**
   * held: by the node, which ends those machines itself when it could not renew for `ttl_ms`.
   * fenced: taken away; the API moves machines.
   * returning: the node is back, has ended them, and asks what has become of them.
   * removed: the node was taken out of the region; nothing leads back from here.
   */
  readonly state: "held" | "fenced" | "returning" | "removed";
  readonly ttl_ms: number;
  /** Makes each renewal another value, and tells people which process holds it. */
  readonly holder?: string;
  /** With the word `returning`: all machines of the node that need the lease, known to others or not. */
  readonly asks?: readonly string[];
  /** With the word `held` after a fence: machines that are elsewhere now, and are to be forgotten. */
  readonly moved?: readonly { readonly machine_id: string; readonly term: number }[];
}

/**
 * moving: another node is chosen; the old one still has to let go.
 * released: the old node does not run it and will not, so the new one may have it.
 * moved: the new node has it.
 * stays: no move is under way; `why` says what hinders one that is wanted.
 */
export type PlacementState = "moving" | "released" | "moved" | "stays";

/** Where a machine belongs that was moved. Written by the API by compare-and-set, before any node is asked. */
export interface PlacementFact {
  readonly machine_id: string;
  readonly app: string;
  readonly node_id: string;
  readonly from_node_id: string;
  readonly reason: "host_lost" | "drain";
  readonly state: PlacementState;
  /** Grows with each decision; a worker refuses a commit with a smaller one than it has seen. */
  readonly term: number;
  /** The version that the machine becomes on the new node: the same however often it is asked. */
  readonly instance_id: string;
  /** Whether it is started there. */
  readonly launch: boolean;
  readonly why?: string;
  readonly moved_at_ms: number;
}

/** Owned by the API. A node without one is neither cordoned nor draining. */
export interface NodePolicyFact {
  readonly node_id: string;
  readonly cordoned: boolean;
  readonly draining: boolean;
  readonly changed_at_ms: number;
  /** The node was taken out of the region. Its host number is part of old addresses and is not given again. */
  readonly removed?: { readonly host_number?: number; readonly at_ms: number };
}

export type NodeRole = "worker" | "api" | "bus";

/** Written when the node joins. Private keys never leave their host. */
export interface NodeKeyFact {
  readonly node_id: string;
  readonly host_number: number;
  readonly roles: readonly NodeRole[];
  /** NKeys (public, of type user): what the services of the host, and its API, log in to the bus with. */
  readonly node_key: string;
  readonly api_key?: string;
  /** NKey (public, of type curve): what is meant for this host alone is sealed to it. */
  readonly seal_key?: string;
  /** Where its bus server is reached by clients and, as `host:port`, by other servers, with the role `bus`. */
  readonly bus?: { readonly client_url: string; readonly route_url: string };
  /** With the role `api`. */
  readonly api_url?: string;
  /** Where other hosts reach this one. */
  readonly address: string;
  readonly version: string;
  readonly joined_at_ms: number;
}

/** Written by agents of bus hosts, by compare-and-set. Without it the first host's server is the bus. */
export interface BusFact {
  /**
   * forming: the members bring up their servers, and the first host's still is the bus.
   * formed: the state has moved to them.
   */
  readonly state: "forming" | "formed";
  /** Node ids, the first host first while it is one. */
  readonly members: readonly string[];
  /** By node id: what servers know each other by, sealed to the node's `seal_key` by `sealed_by`. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly sealed_by: string;
  /** Grows with each secret; 1 when it does not say. */
  readonly secret_number?: number;
  /** What is to be in place of the above, once all who are members now and then say that they have the secret. */
  readonly next?: BusOffer;
}

export interface BusOffer {
  readonly members: readonly string[];
  readonly secrets: Readonly<Record<string, string>>;
  readonly sealed_by: string;
  readonly secret_number: number;
  /** Who has it on disk. */
  readonly ready: readonly string[];
}

/** Owned by the API: the one secret of all SSH gateways, sealed for each host that has one. */
export interface SshAuthorityFact {
  /** By node id. `by` is the public key of the host that sealed it. */
  readonly secrets: Readonly<Record<string, { readonly sealed: string; readonly by: string }>>;
}

/** Owned by the API. The secret itself is only in the token, and the token only with whoever was given it. */
export interface JoinFact {
  readonly roles: readonly NodeRole[];
  readonly created_at_ms: number;
  readonly expires_at_ms: number;
  /** The one node that has used it; only that node may send it again, because its first answer may be lost. */
  readonly used_by?: string;
  readonly used_at_ms?: number;
}

export interface HostNumberFact {
  readonly node_id: string;
}
