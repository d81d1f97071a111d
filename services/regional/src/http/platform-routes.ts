/** The platform: whether this process serves, and the regions that the nodes make. */
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "./http-server.ts";
import { answers, closed, opt } from "./schemas.ts";

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
