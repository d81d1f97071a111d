/** What the Machines API has and Hearth has not yet: refused by name, so that nobody takes it for a wrong path. */
import { HearthError } from "@hearth/errors";
import type { App } from "./http-server.ts";

const machine = "/v1/apps/:app/machines/:id";
const absent: readonly (readonly [what: string, methods: readonly string[], path: string])[] = [
  ["Suspending a machine", ["POST"], `${machine}/suspend`],
  ["Changing a machine's memory", ["GET", "PUT"], `${machine}/memory`],
  ["Reclaiming a machine's memory", ["POST"], `${machine}/memory/reclaim`],
  ["Volumes", ["GET", "POST"], "/v1/apps/:app/volumes"],
  ["Volumes", ["GET", "POST", "PUT", "DELETE"], "/v1/apps/:app/volumes/*"],
  ["Secrets", ["GET", "POST"], "/v1/apps/:app/secrets"],
  ["Secrets", ["GET", "POST", "DELETE"], "/v1/apps/:app/secrets/*"],
  ["Secret keys", ["GET"], "/v1/apps/:app/secretkeys"],
  ["Secret keys", ["GET", "POST", "DELETE"], "/v1/apps/:app/secretkeys/*"],
  ["Public addresses", ["GET", "POST"], "/v1/apps/:app/ip_assignments"],
  ["Public addresses", ["DELETE"], "/v1/apps/:app/ip_assignments/*"],
  ["Tokens of other systems", ["POST"], "/v1/tokens/*"],
  ["Asking for a placement", ["POST"], "/v1/platform/placements"],
  ["GraphQL", ["POST"], "/graphql"],
];

/** As `METHOD path`. */
export const absentPaths: readonly string[] = absent.flatMap(([, methods, url]) =>
  methods.map((method) => `${method} ${url}`),
);

export function absentRoutes(app: App): void {
  for (const [what, method, url] of absent)
    app.route({
      method: [...method],
      url,
      schema: { hide: true },
      handler: async () => {
        throw new HearthError("not_implemented", {
          message: `${what}: this version of Hearth does not do this yet; the changelog says when it does.`,
        });
      },
    });
}
