/**
 * What a machine asks of the node that it is put on, and the account of how the node was chosen. The account is
 * short whatever the size of the region: names for a few nodes, numbers for the rest.
 */
import Type from "typebox";

const closed = { additionalProperties: false } as const;
const opt = Type.Optional;

/** Of a node, and of what a machine asks of one. */
export const NodeLabels = Type.Record(
  Type.String({ pattern: "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$" }),
  Type.String({ pattern: "^[A-Za-z0-9._-]{0,63}$" }),
  { additionalProperties: false, maxProperties: 32 },
);
export type NodeLabels = Type.Static<typeof NodeLabels>;

/** `config.placement` of a machine: Hearth's own, beside the fields of the Machines API. */
export const PlacementConfig = Type.Object(
  {
    /** Only nodes that have all of them. */
    labels: opt(NodeLabels),
    /** Never two machines of the app on one node. Without it they are only spread where there is room. */
    anti_affinity: opt(Type.Boolean()),
  },
  closed,
);
export type PlacementConfig = Type.Static<typeof PlacementConfig>;

/** Why a node did not take a machine. `ranked_lower` is one that could have, and did not need to. */
export const placementCodes = [
  "region",
  "not_heard",
  "problem",
  "cordoned",
  "draining",
  "labels",
  "memory",
  "cpus",
  "anti_affinity",
  "image",
  "no_answer",
  "refused",
  "ranked_lower",
] as const;
export type PlacementCode = (typeof placementCodes)[number];

export const maxConsidered = 20;
export const maxReason = 1024;

export const ConsideredNode = Type.Object(
  {
    node_id: Type.String(),
    code: Type.Enum(["chosen", ...placementCodes]),
    /** For people: what the node said, or what is known of it. */
    reason: Type.String({ maxLength: maxReason }),
  },
  closed,
);
export type ConsideredNode = Type.Static<typeof ConsideredNode>;

export const PlacementReport = Type.Object(
  {
    /** Absent when no node took the machine. */
    node_id: opt(Type.String()),
    /** How many nodes there are. */
    nodes: Type.Integer({ minimum: 0 }),
    considered: Type.Array(ConsideredNode, { maxItems: maxConsidered }),
    /** How many were passed over, by code. In a region of many nodes, of those only that were looked at. */
    passed_over: Type.Record(Type.String(), Type.Integer({ minimum: 0 })),
  },
  closed,
);
export type PlacementReport = Type.Static<typeof PlacementReport>;
