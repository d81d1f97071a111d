/**
 * Whether a caller may use a route on what the request names. What is outside of its sight answers as what does not
 * exist does, word for word, so that nobody learns the names of others; what it sees and may not do is 403.
 */
import { HearthError } from "@hearth/errors";
import type { TokenScope } from "@hearth/machine";
import type { ClusterView } from "../state/cluster-view.ts";
import type { Caller } from "./caller.ts";
import type { RoutePermission } from "./route-permissions.ts";
import { isUnrestricted, permitsApp, permitsMachine, permitsOrg } from "./token-scope.ts";

export interface Asked {
  readonly permission: RoutePermission;
  readonly params: Readonly<Record<string, string | undefined>>;
}

/** @throws HearthError `permission_denied`, and what `ClusterView.missing` and `missingApp` say */
export function authorize(caller: Caller, view: ClusterView, { permission, params }: Asked): void {
  const { verb, target } = permission;
  if (verb === "own") return;
  if (!caller.may(verb)) throw denied(caller, verb);
  if (target === "any" || target === "newApp") return;
  if (target === "region") need(caller, verb, isUnrestricted, "the region");
  else if (target === "org") {
    const { org = "" } = params;
    need(caller, verb, (scope) => permitsOrg(scope, org), `the org ${org}`);
  } else onApp(caller, view, { verb, target, params });
}

interface AskedOfApp {
  readonly verb: Need;
  readonly target: "appSeen" | "app" | "machine";
  readonly params: Asked["params"];
}

function onApp(caller: Caller, view: ClusterView, { verb, target, params }: AskedOfApp): void {
  const { app: name = "", id = "" } = params;
  const app = view.findApp(name)?.value;
  if (app === undefined || !caller.seesApp(view, app)) throw view.missingApp(name);
  if (target === "app") need(caller, verb, (scope) => permitsApp(scope, app), `the app ${name}`);
  if (target !== "machine") return;
  if (!caller.seesMachine(app, id)) throw view.missing(id);
  need(caller, verb, (scope) => permitsMachine(scope, app, id), `the machine ${id}`);
}

/** @throws HearthError `permission_denied` */
export function authorizeNewApp(caller: Caller, name: string, orgSlug: string): void {
  const app = { name, org_slug: orgSlug };
  need(caller, "deploy", (scope) => permitsApp(scope, app), `an app ${name} in the org ${orgSlug}`);
}

type Need = Exclude<RoutePermission["verb"], "own">;

function need(caller: Caller, verb: Need, holds: (scope: TokenScope) => boolean, what: string): void {
  if (!caller.may(verb, holds)) throw denied(caller, verb, what);
}

function denied(caller: Caller, verb: Need, what?: string): HearthError {
  const lacking = what === undefined ? `the verb ${verb}` : `the verb ${verb} on ${what}`;
  return new HearthError("permission_denied", {
    message: `The token lacks ${lacking}; it permits ${caller.scopeText}. Use one with a wider scope.`,
    details: { verb, ...(what === undefined ? {} : { on: what }) },
  });
}
