/** Apps: a name under which machines are found, and the private network that they share. */
import { EgressPolicyInput } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { AppName, AppParams, answers, closed, OrgSlug, opt } from "../http/schemas.ts";
import { invalid } from "../http/validation.ts";
import type { StoredApp } from "../state/cluster-view.ts";
import { authorizeNewApp } from "../tokens/authorize.ts";
import type { Caller } from "../tokens/caller.ts";
import { shownEgress } from "./app-egress.ts";
import { createApp, deleteApp } from "./apps.ts";

const Organization = Type.Object({ name: Type.String(), slug: Type.String() });
const AppSummary = {
  id: Type.String(),
  name: Type.String(),
  status: Type.Enum(["pending", "deployed", "suspended"]),
  organization: Organization,
  network: Type.String(),
  machine_count: Type.Integer(),
  volume_count: Type.Integer(),
  created_at: Type.Integer({ description: "Milliseconds since 1970." }),
  egress: opt(EgressPolicyInput),
};
const AppAnswer = Type.Object(AppSummary);

const CreateApp = Type.Object(
  {
    app_name: opt(AppName),
    name: opt(AppName),
    org_slug: opt(OrgSlug),
    network: opt(Type.String({ pattern: "^[A-Za-z0-9_-]{0,63}$" })),
    egress: opt(EgressPolicyInput),
    enable_subdomains: opt(Type.Boolean()),
    app_role_id: opt(Type.String()),
  },
  closed,
);

export function appsRoutes(app: App, context: ApiContext): void {
  const { view, gate } = context;
  const tags = ["apps"];
  const answer = (caller: Caller, stored: StoredApp) => {
    const machines = caller.visibleMachines(view, stored).filter(({ state }) => state !== "destroyed");
    const egress = shownEgress(stored);
    return {
      id: stored.id,
      name: stored.name,
      status: machines.length > 0 ? "deployed" : "pending",
      organization: { name: stored.org_slug, slug: stored.org_slug },
      network: stored.network_name,
      machine_count: machines.length,
      volume_count: 0,
      created_at: stored.created_at_ms,
      ...(egress === undefined ? {} : { egress }),
    };
  };

  app.post(
    "/v1/apps",
    {
      schema: {
        tags,
        summary: "Create an app",
        querystring: Type.Object({ wait: opt(Type.Boolean()) }, closed),
        body: CreateApp,
        response: answers({ 201: AppAnswer }),
      },
    },
    async (request, reply) => {
      const { app_name, name = app_name, org_slug = "personal", network, egress } = request.body;
      if (name === undefined) throw invalid("app_name", "is missing");
      if (app_name !== undefined && app_name !== name) throw invalid("name", "differs from app_name");
      const caller = gate.callerOf(request);
      authorizeNewApp(caller, name, org_slug);
      const wanted = { name, orgSlug: org_slug, network: network || "default", egress };
      const created = await createApp(context, wanted);
      return reply.code(201).send(answer(caller, created));
    },
  );

  app.get(
    "/v1/apps",
    {
      schema: {
        tags,
        summary: "List apps",
        querystring: Type.Object({ org_slug: opt(Type.String()), app_role: opt(Type.String()) }, closed),
        response: answers({
          200: Type.Object({ total_apps: Type.Integer(), apps: Type.Array(AppAnswer) }),
        }),
      },
    },
    async (request) => {
      const { org_slug } = request.query;
      const caller = gate.callerOf(request);
      const apps = caller.visibleApps(view).filter((each) => !org_slug || each.org_slug === org_slug);
      return { total_apps: apps.length, apps: apps.map((each) => answer(caller, each)) };
    },
  );

  app.get(
    "/v1/apps/:app",
    { schema: { tags, summary: "Get an app", params: AppParams, response: answers({ 200: AppAnswer }) } },
    async (request) => answer(gate.callerOf(request), view.app(request.params.app)),
  );

  app.delete(
    "/v1/apps/:app",
    {
      schema: {
        tags,
        summary: "Delete an app; with `force` its machines too",
        params: AppParams,
        querystring: Type.Object({ force: opt(Type.Boolean()) }, closed),
        response: answers({ 202: Type.Null({ description: "Deleted; no body." }) }),
      },
    },
    async ({ params, query }, reply) => {
      await deleteApp(context, params.app, query.force === true);
      return reply.code(202).send();
    },
  );
}
