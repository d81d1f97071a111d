/**
 * What each route asks of its caller: a verb, and what the verb must be permitted on. A route that is not here is
 * refused at run time, and fails a test. Handlers filter what they list; everything else is decided here.
 */
import type { TokenVerb } from "@hearth/machine";
import { absentPaths } from "../http/absent-routes.ts";

export const routeTargets = {
  /** Nothing in particular: it tells nothing of anybody, or its handler shows what the caller may see. */
  any: "any",
  /** What belongs to no app. Only for a scope without restrictions. */
  region: "region",
  /** The organisation of the path as a whole. */
  org: "org",
  /** The app that the body names, which need not exist. */
  newApp: "newApp",
  /** The app of the path, of which the caller may see something. */
  appSeen: "appSeen",
  /** The app of the path as a whole. */
  app: "app",
  /** The machine of the path. */
  machine: "machine",
} as const;
export type RouteTarget = (typeof routeTargets)[keyof typeof routeTargets];

export interface RoutePermission {
  /** `own`: any good token may, as it concerns only itself and what was issued from it. */
  readonly verb: TokenVerb | "own";
  readonly target: RouteTarget;
}

const app = "/v1/apps/:app";
const networks = "/v1/orgs/:org/networks";
const network = `${networks}/:network`;
const pair = `${network}/pairs/:other`;
const machine = `${app}/machines/:id`;
const files = `${machine}/files`;
const certificates = `${app}/certificates`;

type Row = readonly [verb: RoutePermission["verb"], target: RouteTarget, ...routes: string[]];
const rows: readonly Row[] = [
  ["read", "any", "GET /v1/apps", "GET /v1/orgs/:org/machines", "GET /v1/platform/regions"],
  ["read", "org", `GET ${networks}`, `GET ${network}`],
  ["deploy", "org", `POST ${networks}`, `DELETE ${network}`, `PUT ${pair}`, `DELETE ${pair}`],
  ["read", "region", "GET /v1/nodes", "GET /v1/nodes/:node", "GET /v1/images", "GET /v1/mesh"],
  [
    ...([
      "nodes",
      "region",
      "GET /v1/nodes/:node/inspection",
      "DELETE /v1/nodes/:node",
      "POST /v1/nodes/join-tokens",
      "POST /v1/mesh/rotate",
    ] as const),
    ...["cordon", "uncordon", "drain", "undrain"].map((verb) => `POST /v1/nodes/:node/${verb}`),
  ],
  ["deploy", "region", "POST /v1/images/pull", "POST /v1/images/import", "DELETE /v1/images"],
  ["deploy", "newApp", "POST /v1/apps"],
  ["read", "appSeen", `GET ${app}`, `GET ${app}/egress`, `GET ${app}/machines`],
  ["deploy", "app", `PUT ${app}/egress`, `DELETE ${app}/egress`],
  ["deploy", "app", `DELETE ${app}`, `POST ${app}/machines`, `POST ${app}/deploy_token`],
  ["read", "app", `GET ${certificates}`, `GET ${certificates}/:hostname`],
  [
    ...(["deploy", "app"] as const),
    ...[`POST ${certificates}/acme`, `POST ${certificates}/custom`, `POST ${certificates}/:hostname/check`],
    ...["", "/acme", "/custom"].map((part) => `DELETE ${certificates}/:hostname${part}`),
  ],
  [
    ...(["read", "machine"] as const),
    ...["", "/wait", "/events", "/versions", "/ps", "/lease", "/metadata", "/metadata/:key"].map(
      (path) => `GET ${machine}${path}`,
    ),
  ],
  // The account of a failed start ends with the machine's console.
  ["logs", "machine", `GET ${machine}/logs`, `GET ${machine}/explain`],
  [
    ...(["exec", "machine"] as const),
    `POST ${machine}/exec`,
    ...[`GET ${machine}/exec/stream`, `GET ${machine}/attach/stream`],
    ...[`GET ${files}`, `PUT ${files}`, `DELETE ${files}`, `GET ${files}/stat`, `GET ${files}/list`],
    ...[`POST ${files}/mkdir`, `POST ${files}/rename`],
  ],
  [
    ...(["deploy", "machine"] as const),
    ...[`POST ${machine}`, `DELETE ${machine}`],
    ...["start", "stop", "restart", "signal", "lease", "cordon", "uncordon", "metadata/:key"].map(
      (path) => `POST ${machine}/${path}`,
    ),
    ...[`DELETE ${machine}/lease`, `PUT ${machine}/metadata`, `PATCH ${machine}/metadata`],
    `DELETE ${machine}/metadata/:key`,
  ],
  ["own", "any", "POST /v1/tokens", "GET /v1/tokens", "GET /v1/tokens/current", "DELETE /v1/tokens/:token"],
  ["exec", "any", "POST /v1/ssh/certificates"],
  ["tokens", "region", "PUT /v1/tokens/admin"],
  // They say only that they are not there yet.
  ["read", "any", ...absentPaths],
];

const permissions: ReadonlyMap<string, RoutePermission> = new Map(
  rows.flatMap(([verb, target, ...routes]) => routes.map((route) => [route, { verb, target }] as const)),
);

export const permissionOf = (method: string, url: string): RoutePermission | undefined =>
  permissions.get(`${method} ${url}`);

/** As `METHOD path`. */
export const permittedRoutes = (): string[] => [...permissions.keys()];
