/**
 * What tokens permit, without anything around it. A scope is a set of verbs and restrictions that must all hold, so
 * whoever adds a restriction or takes away a verb can only make it narrower. That is why a token may issue others.
 */
import { HearthError } from "@hearth/errors";
import { type TokenScope, type TokenVerb, tokenVerbs } from "@hearth/machine";

/** As people of this field know them; each holds the one before it. */
export const tokenLevels = {
  "read-only": ["read"],
  exec: ["read", "logs", "exec"],
  deploy: ["read", "logs", "exec", "deploy"],
  admin: tokenVerbs,
} as const satisfies Readonly<Record<string, readonly TokenVerb[]>>;
export type TokenLevel = keyof typeof tokenLevels;
export const tokenLevelNames = Object.keys(tokenLevels) as TokenLevel[];

export const everything: TokenScope = { verbs: tokenVerbs };

export interface AppRef {
  readonly name: string;
  readonly org_slug: string;
}

/** Whether the scope is of the whole region: what belongs to no app is for these only. */
export const isUnrestricted = (scope: TokenScope): boolean =>
  scope.org === undefined && scope.apps === undefined && scope.machines === undefined;

export const permitsOrg = (scope: TokenScope, orgSlug: string): boolean =>
  (scope.org === undefined || scope.org === orgSlug) &&
  scope.apps === undefined &&
  scope.machines === undefined;

/** Whether the app is in the scope, leaving machines aside. */
export const holdsApp = (scope: TokenScope, app: AppRef): boolean =>
  (scope.org === undefined || scope.org === app.org_slug) &&
  (scope.apps === undefined || scope.apps.includes(app.name));

/** Whether the scope permits its verbs on the app as a whole. */
export const permitsApp = (scope: TokenScope, app: AppRef): boolean =>
  scope.machines === undefined && holdsApp(scope, app);

export const permitsMachine = (scope: TokenScope, app: AppRef, machineId: string): boolean =>
  holdsApp(scope, app) && (scope.machines === undefined || scope.machines.includes(machineId));

export type WantedScope = {
  readonly [key in keyof TokenScope]?: TokenScope[key] | undefined;
};

/** What is not said is as in the parent. @throws HearthError `permission_denied` that names what is wider */
export function narrow(parent: TokenScope, wanted: WantedScope): TokenScope {
  const wider = widerThan(parent, wanted);
  if (wider.length > 0)
    throw new HearthError("permission_denied", {
      message: `A token can only issue narrower ones, and this one is wider: ${wider.join("; ")}.`,
      details: { wider },
    });
  const org = wanted.org ?? parent.org;
  const apps = wanted.apps ?? parent.apps;
  const machines = wanted.machines ?? parent.machines;
  return {
    verbs: wanted.verbs ?? parent.verbs,
    ...(org === undefined ? {} : { org }),
    ...(apps === undefined ? {} : { apps }),
    ...(machines === undefined ? {} : { machines }),
  };
}

/** Whether the inner scope, taken as it stands, permits nothing that the outer one does not. */
export const isWithin = (inner: TokenScope, outer: TokenScope): boolean =>
  widerThan(outer, inner).length === 0 &&
  (outer.org === undefined || inner.org !== undefined) &&
  (outer.apps === undefined || inner.apps !== undefined) &&
  (outer.machines === undefined || inner.machines !== undefined);

function widerThan(parent: TokenScope, wanted: WantedScope): string[] {
  const wider: string[] = [];
  for (const [name, word] of [
    ["verbs", "verb"],
    ["apps", "app"],
    ["machines", "machine"],
  ] as const) {
    const held: readonly string[] | undefined = parent[name];
    const extra = held === undefined ? [] : (wanted[name] ?? []).filter((each) => !held.includes(each));
    wider.push(...extra.map((each) => `${word} ${each}`));
  }
  if (parent.org !== undefined && wanted.org !== undefined && wanted.org !== parent.org)
    wider.push(`org ${wanted.org}`);
  return wider;
}

/** As errors and people name it. */
export function describeScope({ verbs, org, apps, machines }: TokenScope): string {
  const where = [
    ...(org === undefined ? [] : [`org ${org}`]),
    ...(apps === undefined ? [] : [`apps ${apps.join(", ")}`]),
    ...(machines === undefined ? [] : [`machines ${machines.join(", ")}`]),
  ];
  return `${verbs.join(", ")} on ${where.length === 0 ? "the whole region" : where.join(" and ")}`;
}
