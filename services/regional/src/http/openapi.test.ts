/** The document says what is served: it is compared with the routes, and with what clients of the field call. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createLogger } from "@hearth/telemetry";
import type { ApiContext } from "../api-context.ts";
import { registerRoutes } from "../routes.ts";
import { startRegion, type TestRegion } from "../testing/fixture.ts";
import { createHttpServer } from "./http-server.ts";

interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly responses: Readonly<Record<string, unknown>>;
}
interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

let region: TestRegion;
let document: Document;
before(async () => {
  region = await startRegion();
  const answer = await fetch(`${region.url}/v1/openapi.json`);
  assert.equal(answer.status, 200);
  document = (await answer.json()) as Document;
});
after(async () => region[Symbol.asyncDispose]());

const operations = (): [string, string, Operation][] =>
  Object.entries(document.paths).flatMap(([path, byMethod]) =>
    Object.entries(byMethod).map(([method, operation]): [string, string, Operation] => [
      method.toUpperCase(),
      path,
      operation,
    ]),
  );

interface Registered {
  readonly method: string;
  readonly path: string;
  readonly schema: Readonly<Record<string, unknown>> | undefined;
}

function registered(): Registered[] {
  const logger = createLogger("test", {}, { level: "silent" });
  const app = createHttpServer({ gate: { admit: async () => undefined }, logger, newRequestId: () => "" });
  const routes: Registered[] = [];
  app.addHook("onRoute", ({ method, url, schema }) => {
    for (const one of [method].flat())
      routes.push({ method: one, path: url.replaceAll(/:(\w+)/g, "{$1}"), schema: schema as never });
  });
  registerRoutes(app, {} as ApiContext);
  return routes;
}

test("every route has a schema with its parameters and its answers", () => {
  for (const { method, path, schema } of registered()) {
    const name = `${method} ${path}`;
    assert.ok(schema, name);
    if (schema.hide === true) continue;
    for (const part of ["tags", "summary", "response"]) assert.ok(schema[part], `${name}: ${part}`);
    const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, each]) => each);
    const params = (schema.params as { properties?: object } | undefined)?.properties ?? {};
    assert.deepEqual(Object.keys(params), named, name);
  }
});

test("the document has every route that is served, and no other", () => {
  const names = (all: readonly (readonly [string, string])[]) => all.map((each) => each.join(" ")).sort();
  const served = registered().filter(({ schema }) => schema?.hide !== true);
  assert.deepEqual(
    names(operations().map(([method, path]) => [method, path])),
    names(served.map(({ method, path }) => [method, path])),
  );
});

test("what is not in the document is refused as not there yet", async () => {
  const hidden = registered().filter(({ schema }) => schema?.hide === true);
  assert.ok(hidden.length > 0);
  for (const { method, path } of hidden) {
    const { status, json } = await region.call(method, path.replaceAll(/\{\w+\}|\*/g, "x"));
    assert.equal(status, 501, `${method} ${path}`);
    assert.equal(json.code, "not_implemented");
  }
});

test("the document is whole: version, names of operations, references", () => {
  assert.equal(document.openapi, "3.1.0");
  const ids = operations().map(([, , { operationId }]) => operationId);
  assert.equal(new Set(ids).size, ids.length);
  const references = JSON.stringify(document).matchAll(/"\$ref":"#\/components\/(\w+)\/(\w+)"/g);
  let count = 0;
  for (const [reference, kind = "", name = ""] of references) {
    assert.ok(document.components[kind]?.[name], reference);
    count += 1;
  }
  assert.ok(count > operations().length, "errors and machines are references");
  assert.equal(JSON.stringify(document).match(/"\$ref"/g)?.length, count, "no reference leads elsewhere");
});

/** Documented and sent by known clients: method, path, parameters of the query. */
const machines = "/v1/apps/{app}/machines";
const machine = `${machines}/{id}`;
const machinesApi: readonly (readonly [method: string, path: string, query: readonly string[]])[] = [
  ["POST", "/v1/apps", ["wait"]],
  ["GET", "/v1/apps", ["org_slug", "app_role"]],
  ["GET", "/v1/apps/{app}", []],
  ["DELETE", "/v1/apps/{app}", ["force"]],
  ["GET", machines, ["include_deleted", "region", "state", "summary"]],
  ["POST", machines, []],
  ["GET", machine, []],
  ["POST", machine, []],
  ["DELETE", machine, ["force", "kill"]],
  ["POST", `${machine}/start`, []],
  ["POST", `${machine}/stop`, []],
  ["POST", `${machine}/restart`, ["timeout", "signal", "force_stop"]],
  ["POST", `${machine}/signal`, []],
  ["GET", `${machine}/lease`, []],
  ["POST", `${machine}/lease`, ["ttl"]],
  ["DELETE", `${machine}/lease`, []],
  ["POST", `${machine}/cordon`, []],
  ["POST", `${machine}/uncordon`, []],
  ["GET", `${machine}/wait`, ["state", "timeout", "instance_id", "version", "from_event_id"]],
  ["POST", `${machine}/exec`, []],
  ["GET", `${machine}/ps`, ["sort_by", "order"]],
  ["GET", `${machine}/events`, ["limit"]],
  ["GET", `${machine}/versions`, []],
  ["GET", `${machine}/metadata`, []],
  ["PUT", `${machine}/metadata`, []],
  ["PATCH", `${machine}/metadata`, []],
  ["GET", `${machine}/metadata/{key}`, []],
  ["POST", `${machine}/metadata/{key}`, []],
  ["DELETE", `${machine}/metadata/{key}`, []],
  [
    "GET",
    "/v1/orgs/{org}/machines",
    ["include_deleted", "region", "state", "updated_after", "cursor", "limit"],
  ],
  ["GET", "/v1/platform/regions", ["size", "cpu_kind", "cpus", "memory_mb", "gpus", "gpu_kind"]],
];

test("the calls of the Machines API have its methods, paths and parameters", () => {
  for (const [method, path, query] of machinesApi) {
    const operation = document.paths[path]?.[method.toLowerCase()];
    assert.ok(operation, `${method} ${path}`);
    const found = (operation.parameters ?? []).filter(({ in: place }) => place === "query");
    assert.deepEqual(
      found.map(({ name }) => name),
      query,
      `${method} ${path}`,
    );
  }
});

test("the nonce of a lease is a parameter of what a lease guards", () => {
  const guarded: readonly (readonly [string, string])[] = [
    ["post", machine],
    ["delete", machine],
    ["post", `${machine}/lease`],
    ["delete", `${machine}/lease`],
    ...["start", "stop", "restart", "signal", "cordon", "uncordon"].map(
      (verb) => ["post", `${machine}/${verb}`] as const,
    ),
  ];
  for (const [method, path] of guarded) {
    const headers = (document.paths[path]?.[method]?.parameters ?? []).filter((each) => each.in === "header");
    assert.deepEqual(
      headers.map(({ name }) => name),
      ["fly-machine-lease-nonce"],
      `${method} ${path}`,
    );
  }
});

test("each operation says the verb that it needs, and how it refuses who lacks it", () => {
  for (const [method, path, operation] of operations()) {
    const name = `${method} ${path}`;
    const { security } = operation as unknown as { security: readonly { token: readonly string[] }[] };
    if (["/v1/health", "/v1/openapi.json", "/v1/nodes/join"].includes(path))
      assert.deepEqual(security, [], name);
    else {
      assert.equal(security.length, 1, name);
      assert.deepEqual(operation.responses["403"], { $ref: "#/components/responses/Forbidden" }, name);
      assert.deepEqual(operation.responses["401"], { $ref: "#/components/responses/Unauthenticated" }, name);
    }
  }
  const exec = document.paths[`${machine}/exec`]?.post as unknown as { security: unknown };
  assert.deepEqual(exec.security, [{ token: ["exec"] }]);
});
