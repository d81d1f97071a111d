/**
 * The lease of a machine over HTTP. Existing clients give the time to live in the query or in the body, and need the
 * words `lease not found` and `lease currently held by`. The worker that has the machine judges every lease.
 */
import type { LeaseData } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, MachineParams, Ok, opt } from "../http/schemas.ts";
import { LeaseHeaders, leaseNonce } from "./lease-header.ts";

const tags = ["leases"];
const leasePath = "/v1/apps/:app/machines/:id/lease";
const defaultTtlSeconds = 30;
const longestTtlSeconds = 86_400;
/** Of a holder who gives no name. */
const defaultOwner = "api";

const Ttl = Type.Integer({
  minimum: 1,
  maximum: longestTtlSeconds,
  description: `Seconds from now; ${defaultTtlSeconds} when absent.`,
});
const AcquireLease = Type.Object(
  {
    ttl: opt(Ttl),
    description: opt(Type.String({ maxLength: 1024 })),
    owner: opt(Type.String({ maxLength: 255, description: "Named to others who want the lease." })),
  },
  closed,
);
const LeaseAnswer = Type.Object({
  status: Type.Enum(["success"]),
  data: Type.Object({
    nonce: opt(Type.String({ description: "Only in the answer that made or extended the lease." })),
    expires_at: Type.Integer({ description: "Seconds since 1970." }),
    owner: Type.String(),
    description: Type.String(),
    version: Type.String({ description: "The machine's version when the lease was made or extended." }),
  }),
});

export function leaseRoutes(app: App, context: ApiContext): void {
  const { view, access } = context;

  app.get(
    leasePath,
    {
      schema: {
        tags,
        summary: "Who holds the lease of a machine, and until when",
        params: MachineParams,
        response: answers({ 200: LeaseAnswer }),
      },
    },
    async ({ params }) => {
      const data = await access.ask(view.machine(params.app, params.id), "lease-get", {});
      return { status: "success", data: data as LeaseData } as const;
    },
  );

  app.post(
    leasePath,
    {
      schema: {
        tags,
        summary: "Acquire the lease of a machine; with its nonce, extend it",
        description:
          "While it lives, only calls with its nonce change the machine; others are refused with 409.",
        params: MachineParams,
        headers: LeaseHeaders,
        querystring: Type.Object({ ttl: opt(Ttl) }, closed),
        body: AcquireLease,
        response: answers({ 201: LeaseAnswer }),
      },
    },
    async ({ params, query, body, headers }, reply) => {
      const nonce = leaseNonce(headers);
      const { description, owner } = body;
      const data = await access.ask(view.machine(params.app, params.id), "lease-acquire", {
        ttl_ms: (query.ttl ?? body.ttl ?? defaultTtlSeconds) * 1000,
        ...(nonce === undefined ? { owner: owner || defaultOwner } : { nonce, ...(owner ? { owner } : {}) }),
        ...(description === undefined ? {} : { description }),
      });
      return reply.code(201).send({ status: "success", data: data as LeaseData });
    },
  );

  app.delete(
    leasePath,
    {
      schema: {
        tags,
        summary: "Give back the lease of a machine",
        params: MachineParams,
        headers: LeaseHeaders,
        response: answers({ 200: Type.Object({ status: Type.Enum(["success"]), data: Ok }) }),
      },
    },
    async ({ params, headers }) => {
      const nonce = leaseNonce(headers);
      const request = nonce === undefined ? {} : { nonce };
      await access.ask(view.machine(params.app, params.id), "lease-release", request);
      return { status: "success", data: { ok: true } } as const;
    },
  );
}
