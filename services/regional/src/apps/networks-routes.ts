/** Private networks of an organisation, and which of them are paired. */
import type { NetworkFact } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed, OrgSlug } from "../http/schemas.ts";
import {
  appsOf,
  createNetwork,
  deleteNetwork,
  findNetwork,
  listNetworks,
  type NetworkRef,
  pairedWith,
  pairNetworks,
  unpairNetworks,
} from "./networks.ts";

const NetworkName = Type.String({
  pattern: "^[A-Za-z0-9_-]{1,63}$",
  description: "Letters, digits, hyphens and underscores; at most 63.",
});
const NetworkAnswer = Type.Object({
  name: Type.String(),
  organization: Type.Object({ name: Type.String(), slug: Type.String() }),
  apps: Type.Array(Type.String(), { description: "Apps whose machines are in it." }),
  paired_with: Type.Array(Type.String(), { description: "Networks whose machines its own may talk with." }),
  created_at: Type.Integer({ description: "Milliseconds since 1970." }),
});
const OrgParams = Type.Object({ org: OrgSlug });
const NetworkParams = Type.Object({ org: OrgSlug, network: NetworkName });
const PairParams = Type.Object({ org: OrgSlug, network: NetworkName, other: NetworkName });
const tags = ["networks"];
const gone = answers({ 204: Type.Null({ description: "Done; no body." }) });

export function networksRoutes(app: App, context: ApiContext): void {
  const answer = (ref: NetworkRef, fact: NetworkFact) => ({
    name: ref.name,
    organization: { name: ref.orgSlug, slug: ref.orgSlug },
    apps: appsOf(context, ref).map(({ name }) => name),
    paired_with: pairedWith(context, ref),
    created_at: fact.created_at_ms,
  });
  const one = ({ org, network }: { org: string; network: string }) => ({ orgSlug: org, name: network });

  app.get(
    "/v1/orgs/:org/networks",
    {
      schema: {
        ...{ tags, summary: "List the private networks of an organisation", params: OrgParams },
        response: answers({ 200: Type.Object({ networks: Type.Array(NetworkAnswer) }) }),
      },
    },
    async (request) => {
      const orgSlug = request.params.org;
      const networks = listNetworks(context, orgSlug);
      return { networks: networks.map(({ name, fact }) => answer({ orgSlug, name }, fact)) };
    },
  );

  app.post(
    "/v1/orgs/:org/networks",
    {
      schema: {
        ...{ tags, summary: "Create a private network", params: OrgParams },
        body: Type.Object({ name: NetworkName }, closed),
        response: answers({ 201: NetworkAnswer }),
      },
    },
    async (request, reply) => {
      const ref = { orgSlug: request.params.org, name: request.body.name };
      return reply.code(201).send(answer(ref, await createNetwork(context, ref)));
    },
  );

  app.get(
    "/v1/orgs/:org/networks/:network",
    {
      schema: {
        ...{ tags, summary: "Get a private network", params: NetworkParams },
        response: answers({ 200: NetworkAnswer }),
      },
    },
    async (request) => {
      const ref = one(request.params);
      return answer(ref, findNetwork(context, ref).value);
    },
  );

  app.delete(
    "/v1/orgs/:org/networks/:network",
    {
      schema: {
        ...{ tags, summary: "Delete a private network that nothing uses", params: NetworkParams },
        response: gone,
      },
    },
    async (request, reply) => {
      await deleteNetwork(context, one(request.params));
      return reply.code(204).send();
    },
  );

  const pairs = {
    put: { summary: "Let the machines of two networks talk", act: pairNetworks },
    delete: { summary: "Keep the machines of two networks apart again", act: unpairNetworks },
  } as const;
  for (const method of ["put", "delete"] as const) {
    const { summary, act } = pairs[method];
    app[method](
      "/v1/orgs/:org/networks/:network/pairs/:other",
      { schema: { tags, summary, params: PairParams, response: gone } },
      async (request, reply) => {
        await act(context, one(request.params), request.params.other);
        return reply.code(204).send();
      },
    );
  }
}
