/** The platform: whether this process serves, the nodes as they last spoke, and the regions that they make. */
import type { NodeFact } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "./api-context.ts";
import type { ClusterView } from "./cluster-view.ts";
import type { App } from "./http-server.ts";
import { answers, closed, opt } from "./schemas.ts";

const NodeAnswer = Type.Object({
  node_id: Type.String(),
  region: Type.String(),
  version: Type.String(),
  accelerator: Type.Enum(["kvm", "tcg"]),
  total_cpus: Type.Integer(),
  total_memory_mb: Type.Integer(),
  free_memory_mb: Type.Integer({ description: "Cold: what it would still admit." }),
  free_cpus: Type.Union([Type.Integer(), Type.Null()], {
    description: "Virtual CPUs that it would still admit; null when it does not say.",
  }),
  reserved_memory_mb: Type.Integer({ description: "Held now for machines about to be made; not in `free`." }),
  reserved_cpus: Type.Integer(),
  hot_slots: Type.Integer({ description: "Machines that wait booted. 0: this version keeps none." }),
  cpu_overcommit: Type.Union([Type.Integer(), Type.Null()], {
    description: "Virtual CPUs for each of the node's. Memory is never promised twice.",
  }),
  labels: Type.Record(Type.String(), Type.String()),
  images: Type.Array(Type.String(), { description: "Images of its machines; the newest ones." }),
  cordoned: Type.Boolean(),
  draining: Type.Boolean(),
  machines: Type.Integer(),
  warnings: Type.Array(Type.String()),
  problems: Type.Array(Type.String(), {
    description: "What does not work now; then it takes no new machine.",
  }),
  published_at_ms: Type.Integer(),
  age_ms: Type.Union([Type.Integer(), Type.Null()], {
    description: "Since this process last heard it; null when it has not yet.",
  }),
  clock_skew_ms: Type.Integer({ description: "How far its clock is ahead of that of this process." }),
  schedulable: Type.Boolean({ description: "Whether new machines may go there." }),
});

function nodeAnswer(
  view: ClusterView,
  { restated: _restated, ...node }: NodeFact,
): Type.Static<typeof NodeAnswer> {
  const { cordoned = false, draining = false } = view.nodeIndex.policy(node.node_id) ?? {};
  const { problems = [], images = [] } = node;
  const clock = view.clockWarning(node);
  const ageMs = view.nodeAgeMs(node);
  return {
    ...{ free_cpus: null, reserved_memory_mb: 0, reserved_cpus: 0, hot_slots: 0, cpu_overcommit: null },
    ...{ ...node, labels: { ...node.labels }, images: [...images], cordoned, draining },
    warnings: [...node.warnings, ...(clock === undefined ? [] : [clock])],
    problems: [...problems],
    age_ms: Number.isFinite(ageMs) ? Math.round(ageMs) : null,
    clock_skew_ms: Math.round(view.nodeIndex.clockSkewMs(node.node_id)),
    schedulable: view.isNodeFresh(node) && problems.length === 0 && !cordoned && !draining,
  };
}

export function platformRoutes(app: App, context: ApiContext): void {
  const { view } = context;

  app.get(
    "/v1/health",
    {
      config: { open: true, polled: true },
      schema: {
        tags: ["platform"],
        summary: "Whether this process serves, and how old what it knows is",
        security: [],
        response: {
          200: Type.Object({
            status: Type.Enum(["ok", "degraded"], { description: "`degraded`: only reads are served." }),
            bus: Type.Boolean(),
            replica_age_ms: Type.Union([Type.Integer(), Type.Null()]),
            replica_revision: Type.Integer(),
            restored_facts: Type.Integer({
              description: "What the bus had lost and this process last put back; 0 when it never had to.",
            }),
            restored_at_ms: Type.Union([Type.Integer(), Type.Null()]),
          }),
        },
      },
    },
    async () => {
      const { ageMs, revision, restoration } = view.replica;
      const bus = isConnected(context);
      return {
        status: bus ? ("ok" as const) : ("degraded" as const),
        bus,
        replica_age_ms: Number.isFinite(ageMs) ? Math.round(ageMs) : null,
        replica_revision: revision,
        restored_facts: restoration?.restored ?? 0,
        restored_at_ms: restoration?.atMs ?? null,
      };
    },
  );

  app.get(
    "/v1/nodes",
    {
      config: { polled: true },
      schema: {
        tags: ["platform"],
        summary: "The nodes, as each last described itself",
        response: answers({ 200: Type.Array(NodeAnswer) }),
      },
    },
    async () => view.nodes().map((node) => nodeAnswer(view, node)),
  );

  app.get(
    "/v1/platform/regions",
    {
      schema: {
        tags: ["platform"],
        summary: "The regions, with the memory that is free in each",
        querystring: Type.Object(
          {
            size: opt(Type.String()),
            cpu_kind: opt(Type.String()),
            cpus: opt(Type.Integer()),
            memory_mb: opt(Type.Integer()),
            gpus: opt(Type.Integer()),
            gpu_kind: opt(Type.String()),
          },
          closed,
        ),
        response: answers({
          200: Type.Object({
            regions: Type.Array(
              Type.Object({
                code: Type.String(),
                name: Type.String(),
                latitude: Type.Number(),
                longitude: Type.Number(),
                gateway_available: Type.Boolean(),
                requires_paid_plan: Type.Boolean(),
                deprecated: Type.Boolean(),
                capacity: Type.Integer({ description: "How many machines of the shape still fit." }),
              }),
            ),
            nearest: Type.String(),
          }),
        }),
      },
    },
    async ({ query }) => {
      const memoryMb = Math.max(query.memory_mb ?? 256, 1);
      const codes = [...new Set(view.nodes().map(({ region }) => region))].sort();
      const regions = codes.map((code) => ({
        code,
        name: code,
        latitude: 0,
        longitude: 0,
        gateway_available: false,
        requires_paid_plan: false,
        deprecated: false,
        capacity: view
          .freshNodes()
          .filter(({ region }) => region === code)
          .reduce((sum, { free_memory_mb }) => sum + Math.floor(free_memory_mb / memoryMb), 0),
      }));
      return { regions, nearest: codes[0] ?? "" };
    },
  );
}

/** Nobody has said anything to the bus for longer than the replica takes to look. */
const deafMs = 10_000;

function isConnected({ bus, view }: ApiContext): boolean {
  try {
    return bus().isConnected && view.replica.ageMs < deafMs;
  } catch {
    return false;
  }
}
