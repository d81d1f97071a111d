/**
 * The OpenAPI document, made from the schemas that check the requests. It is made when it is first asked for,
 * from a second copy of the routes that serves nobody: the generator must see each route as it is added, and it
 * is too large to be kept in memory by a process that may never be asked.
 */

import { permissionOf } from "../tokens/route-permissions.ts";
import type { App } from "./http-server.ts";
import { WireErrorBody } from "./wire-error.ts";

const info = {
  title: "Hearth",
  version: "0.1.0",
  description:
    "Machines from OCI images. Paths, names and states are those of the Machines API; what Hearth adds lies beside them.",
};

const tokenScheme = {
  type: "http",
  scheme: "bearer",
  bearerFormat: "JWT",
  description:
    "The operator's token, or one that `POST /v1/tokens` issued. The verb that an operation needs stands beside it; `FlyV1` in place of `Bearer` is understood too.",
} as const;
const refusals = {
  "401": "The token is missing or no good: `details.reason` says which.",
  "403": "The token lacks the verb, or has it on something else: `details.verb` and `details.on`.",
} as const;

export const mediaTypes = { lines: "application/x-ndjson", bytes: "application/octet-stream" } as const;

// biome-ignore lint/suspicious/noExplicitAny: a document of many shapes, of which only a few are looked at
type Json = any;

/**
 * @param app never listens; it is closed here
 * @param addRoutes adds all routes to it
 */
export async function renderOpenApi(app: App, addRoutes: (app: App) => void): Promise<object> {
  const { default: swagger } = await import("@fastify/swagger");
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info,
      security: [{ token: [] }],
      components: { securitySchemes: { token: tokenScheme } },
    },
    transform: ({ schema, url, route }) => {
      const { upload, answers } = route.config ?? {};
      const bytes = { type: "string", format: "binary" };
      const verb = permissionOf(String(route.method), url)?.verb;
      return {
        url,
        schema: {
          ...(verb === undefined ? {} : { security: [{ token: verb === "own" ? [] : [verb] }] }),
          ...schema,
          operationId: operationId(String(route.method), url),
          ...(upload === true ? { consumes: [mediaTypes.bytes], body: bytes } : {}),
          ...(answers === undefined ? {} : { produces: [mediaTypes[answers]] }),
        },
      };
    },
  });
  addRoutes(app);
  await app.ready();
  const document: Json = app.swagger();
  await app.close();
  for (const operations of Object.values<Json>(document.paths))
    for (const operation of Object.values<Json>(operations)) tidy(operation);
  document.components.responses = {
    Error: {
      description: "An error.",
      content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
    },
  };
  for (const [status, description] of Object.entries(refusals))
    document.components.responses[refusalName(status)] = {
      ...document.components.responses.Error,
      description,
    };
  document.components.schemas = { Error: JSON.parse(JSON.stringify(WireErrorBody)) };
  // The larger comes first, as it holds the smaller.
  for (const [name, find] of Object.entries(shared)) shareSchema(document, name, find(document.paths));
  return document;
}

/** What many operations hold is written once; where it is found, as the generator has its own spelling of schemas. */
const shared: Readonly<Record<string, (paths: Json) => Json>> = {
  Machine: (paths) => bodyOf(paths[machinePath].get.responses["200"]),
  MachineConfig: (paths) => bodyOf(paths[machinePath].post.requestBody).properties.config,
  MachineEvent: (paths) => bodyOf(paths[`${machinePath}/events`].get.responses["200"]).items,
};
const machinePath = "/v1/apps/{app}/machines/{id}";
const bodyOf = (part: Json): Json => part.content["application/json"].schema;

/** `GET /v1/apps/:app/machines` is `getAppsAppMachines`. */
const operationId = (method: string, url: string): string =>
  [method.toLowerCase(), ...url.split(/[^a-z0-9]+/i).slice(2)]
    .map((word, index) => (index === 0 ? word : word.charAt(0).toUpperCase() + word.slice(1)))
    .join("");

const refusalName = (status: string): string => (status === "401" ? "Unauthenticated" : "Forbidden");

function tidy(operation: Json): void {
  // An empty body is an empty object, so a body of which nothing is required may be absent.
  const body = operation.requestBody?.content["application/json"]?.schema;
  if (body !== undefined && body.required === undefined) operation.requestBody.required = false;
  // Where no token is wanted the list is empty.
  if (operation.security?.length !== 0)
    for (const status of Object.keys(refusals))
      operation.responses[status] ??= { $ref: `#/components/responses/${refusalName(status)}` };
  for (const status of Object.keys(operation.responses))
    if (/^[45]XX$/.test(status)) operation.responses[status] = { $ref: "#/components/responses/Error" };
}

/** Makes a component of a schema, and references of all its copies. */
function shareSchema(document: Json, name: string, schema: Json): void {
  const text = JSON.stringify(schema);
  const visit = (node: Json): Json => {
    if (typeof node !== "object" || node === null) return node;
    if (JSON.stringify(node) === text) return { $ref: `#/components/schemas/${name}` };
    for (const key of Object.keys(node)) node[key] = visit(node[key]);
    return node;
  };
  visit(document);
  document.components.schemas[name] = JSON.parse(text);
}
