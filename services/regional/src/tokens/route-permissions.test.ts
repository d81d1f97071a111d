/**
 * Every route with every level and kind of scope. The real routes, gate, tokens and replica; only the handlers are
 * taken out, as most of them would change what the next call needs. What is expected is written here once more.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createLogger } from "@hearth/telemetry";
import type { ApiContext } from "../api-context.ts";
import { AccessGate } from "../http/access-gate.ts";
import { type App, createHttpServer } from "../http/http-server.ts";
import { registerRoutes } from "../routes.ts";
import { ClusterView } from "../state/cluster-view.ts";
import { startRegion, type TestRegion } from "../testing/fixture.ts";
import { Authenticator } from "./auth.ts";
import { OperatorTokens } from "./operator-tokens.ts";
import { permittedRoutes } from "./route-permissions.ts";
import { TokenIndex } from "./token-index.ts";
import { type TokenLevel, tokenLevelNames } from "./token-scope.ts";
import { TokenVerifier } from "./token-verify.ts";

const network = "/v1/orgs/:org/networks/:network";
const machine = "/v1/apps/:app/machines/:id";
const certificates = "/v1/apps/:app/certificates";
/** The lowest level that may, and the routes. */
const expected: readonly (readonly [TokenLevel | "own", readonly string[]])[] = [
  ["own", ["POST /v1/tokens", "GET /v1/tokens", "GET /v1/tokens/current", "DELETE /v1/tokens/:token"]],
  [
    "read-only",
    [
      ...["GET /v1/apps", "GET /v1/apps/:app", "GET /v1/apps/:app/machines", "GET /v1/orgs/:org/machines"],
      ...["GET /v1/orgs/:org/networks", `GET ${network}`],
      ...["GET /v1/nodes", "GET /v1/nodes/:node", "GET /v1/images", "GET /v1/platform/regions"],
      ...["GET /v1/mesh", "GET /v1/apps/:app/egress"],
      ...[`GET ${certificates}`, `GET ${certificates}/:hostname`],
      ...["", "/wait", "/events", "/versions", "/ps", "/lease", "/metadata", "/metadata/:key"].map(
        (path) => `GET ${machine}${path}`,
      ),
    ],
  ],
  [
    "exec",
    [
      ...["/logs", "/explain", "/exec/stream", "/attach/stream", "/files", "/files/stat", "/files/list"].map(
        (path) => `GET ${machine}${path}`,
      ),
      ...["/exec", "/files/mkdir", "/files/rename"].map((path) => `POST ${machine}${path}`),
      ...[`PUT ${machine}/files`, `DELETE ${machine}/files`, "POST /v1/ssh/certificates"],
    ],
  ],
  [
    "deploy",
    [
      ...["POST /v1/apps", "DELETE /v1/apps/:app", "POST /v1/apps/:app/machines"],
      ...["POST /v1/orgs/:org/networks", `DELETE ${network}`],
      ...[`PUT ${network}/pairs/:other`, `DELETE ${network}/pairs/:other`],
      ...["POST /v1/apps/:app/deploy_token", "DELETE /v1/images"],
      ...["PUT /v1/apps/:app/egress", "DELETE /v1/apps/:app/egress"],
      ...["POST /v1/images/pull", "POST /v1/images/import"],
      ...["/acme", "/custom", "/:hostname/check"].map((path) => `POST ${certificates}${path}`),
      ...["", "/acme", "/custom"].map((path) => `DELETE ${certificates}/:hostname${path}`),
      ...[
        "",
        "/start",
        "/stop",
        "/restart",
        "/signal",
        "/lease",
        "/cordon",
        "/uncordon",
        "/metadata/:key",
      ].map((path) => `POST ${machine}${path}`),
      ...[`DELETE ${machine}`, `DELETE ${machine}/lease`, `DELETE ${machine}/metadata/:key`],
      ...[`PUT ${machine}/metadata`, `PATCH ${machine}/metadata`],
    ],
  ],
  [
    "admin",
    [
      ...["GET /v1/nodes/:node/inspection", "DELETE /v1/nodes/:node", "PUT /v1/tokens/admin"],
      ...["POST /v1/nodes/join-tokens", "POST /v1/mesh/rotate"],
      ...["cordon", "uncordon", "drain", "undrain"].map((verb) => `POST /v1/nodes/:node/${verb}`),
    ],
  ],
];
const levelOf = new Map(
  expected.flatMap(([level, routes]) => routes.map((route) => [route, level] as const)),
);
/** What belongs to no app. */
const ofRegion = /^(GET|POST|DELETE|PUT) \/v1\/(images|nodes|mesh|tokens\/admin)/;
/** What belongs to an organisation as a whole. */
const ofOrg = /^[A-Z]+ \/v1\/orgs\/:org\/networks/;

let region: TestRegion;
let app: App;
const routes: { readonly name: string; readonly isOpen: boolean; readonly isHidden: boolean }[] = [];
const ids = { web: "", shop: "" };

before(async () => {
  region = await startRegion();
  for (const name of ["web", "shop"] as const) {
    await region.createApp(name);
    const body = { config: { image: "app:1" }, skip_launch: true };
    ids[name] = (await region.call("POST", `/v1/apps/${name}/machines`, body)).json.id;
  }
  const { replica } = region;
  const tokens = new TokenIndex(replica);
  const operators = new OperatorTokens(replica, { nodeId: "test", hash: undefined });
  const verifier = new TokenVerifier({ replica, tokens, nowMs: Date.now });
  const clocks = { nowMs: Date.now, monotonicMs: () => performance.now() };
  const authenticator = new Authenticator(operators, verifier);
  const gate = new AccessGate({ authenticator, view: new ClusterView(replica, clocks) });
  const logger = createLogger("test", {}, { level: "silent" });
  app = createHttpServer({ gate, logger, newRequestId: () => "id" });
  app.addHook("onRoute", (route) => {
    for (const method of [route.method].flat()) {
      const isHidden = route.schema?.hide === true;
      routes.push({ name: `${method} ${route.url}`, isOpen: route.config?.open === true, isHidden });
    }
    route.schema = {};
    route.handler = async () => ({ reached: true });
  });
  registerRoutes(app, {} as ApiContext);
  app.get("/v1/forgotten", { schema: {} }, async () => ({}));
  await app.ready();
});
after(async () => {
  await app.close();
  await region[Symbol.asyncDispose]();
});

const served = () => routes.filter(({ isOpen, name }) => !isOpen && !name.endsWith("/v1/forgotten"));
const tokenFor = async (body: object): Promise<string> => {
  const { status, text, json } = await region.call("POST", "/v1/tokens", body);
  assert.equal(status, 201, text);
  return json.token;
};
const ask = async (token: string, name: string, target: "web" | "shop") => {
  const [method = "", path = ""] = name.split(" ");
  const url = path
    .replace(":app", target)
    .replace(":org", "personal")
    .replace(":id", ids[target])
    .replaceAll(/:\w+|\*/g, "abcdef01");
  const headers = { authorization: `Bearer ${token}` };
  const answer = await app.inject({ method: method as "GET", url, headers });
  return { status: answer.statusCode, code: (answer.json() as { code?: string }).code };
};

test("every route has a permission, and every permission a route", () => {
  assert.deepEqual(
    permittedRoutes().sort(),
    served()
      .map(({ name }) => name)
      .sort(),
  );
  const visible = served().filter(({ isHidden }) => !isHidden);
  assert.deepEqual([...levelOf.keys()].sort(), visible.map(({ name }) => name).sort());
});

test("a route that states no permission is refused, also to whoever may everything", async () => {
  const token = await tokenFor({ level: "admin" });
  assert.deepEqual(await ask(token, "GET /v1/forgotten", "web"), { status: 403, code: "permission_denied" });
});

for (const level of tokenLevelNames)
  for (const scope of ["region", "org", "app", "machine"] as const)
    test(`${level} of ${scope}: each route is allowed or refused as stated`, async () => {
      const limits = {
        region: {},
        org: { org: "personal" },
        app: { apps: ["web"] },
        machine: { machines: [ids.web] },
      }[scope];
      const token = await tokenFor({ level, ...limits });
      for (const { name, isHidden } of served())
        for (const target of ["web", "shop"] as const) {
          const needs = isHidden ? "read-only" : (levelOf.get(name) ?? "admin");
          const hasVerb = needs === "own" || tokenLevelNames.indexOf(level) >= tokenLevelNames.indexOf(needs);
          const namesApp = name.includes(":app") && !isHidden;
          const namesMachine = name.includes(":id");
          const isSeen = scope === "region" || scope === "org" || target === "web";
          const isRead = name.startsWith("GET ") && !name.includes("/certificates");
          const isWide = scope !== "machine" || namesMachine || isRead;
          let status = 200;
          if (!hasVerb) status = 403;
          else if (ofRegion.test(name)) status = scope === "region" ? 200 : 403;
          else if (ofOrg.test(name)) status = scope === "region" || scope === "org" ? 200 : 403;
          else if (namesApp && !isSeen) status = 404;
          else if (namesApp && !isWide) status = 403;
          const answer = await ask(token, name, target);
          assert.equal(answer.status, status, `${name} on ${target}: ${answer.code}`);
          if (status === 403) assert.equal(answer.code, "permission_denied", name);
          if (status === 404) assert.match(answer.code ?? "", /^app_not_found$/, name);
        }
    });

test("a machine beside the one of the scope answers as one that does not exist", async () => {
  const body = { config: { image: "app:1" }, skip_launch: true };
  const { id } = (await region.call("POST", "/v1/apps/web/machines", body)).json;
  const token = await tokenFor({ level: "exec", machines: [ids.web] });
  const headers = { authorization: `Bearer ${token}` };
  const strip = (text: string) => text.replaceAll(/[0-9a-f]{14}/g, "ID");
  const beside = await region.call("GET", `/v1/apps/web/machines/${id}`, undefined, headers);
  const unknown = await region.call("GET", "/v1/apps/web/machines/00000000000000", undefined, headers);
  assert.deepEqual([beside.status, strip(beside.text)], [404, strip(unknown.text)]);
  const listed = await region.call("GET", "/v1/apps/web/machines", undefined, headers);
  assert.deepEqual(
    listed.json.map((each: { id: string }) => each.id),
    [ids.web],
  );
  const ofOrg = await region.call("GET", "/v1/orgs/personal/machines", undefined, headers);
  assert.deepEqual(
    ofOrg.json.machines.map((each: { id: string }) => each.id),
    [ids.web],
  );
  const apps = await region.call("GET", "/v1/apps", undefined, headers);
  assert.deepEqual(
    apps.json.apps.map((each: { name: string; machine_count: number }) => [each.name, each.machine_count]),
    [["web", 1]],
  );
});

test("an app outside of the scope answers as one that does not exist", async () => {
  const token = await tokenFor({ level: "deploy", apps: ["web"] });
  const headers = { authorization: `Bearer ${token}` };
  const outside = await region.call("GET", "/v1/apps/shop", undefined, headers);
  const unknown = await region.call("GET", "/v1/apps/nope", undefined, headers);
  assert.deepEqual([outside.status, outside.text.replaceAll("shop", "nope")], [404, unknown.text]);
});
