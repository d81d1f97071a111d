/**
 * Custom domains as facts: a name belongs to the app that asked for it first, until that app gives it back or is
 * deleted. Whoever asks for a name of somebody else learns that it is taken, and nothing of whose it is.
 */
import { isReservedName, readHostname } from "@hearth/acme";
import { HearthError } from "@hearth/errors";
import { type AcmeFact, factKeys, factPrefixes, type HostnameFact } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import type { Revised, StoredApp } from "../state/cluster-view.ts";
import { writeFact } from "../state/write-fact.ts";

/** Of one app; each is an order at the authority, and a certificate in every front door. */
const maxPerApp = 100;
const tries = 5;

export const hostnamesOf = (context: ApiContext, app: StoredApp): Revised<HostnameFact>[] =>
  context.view.replica
    .list(factPrefixes.hostname)
    .map(({ value, revision }) => ({ value: value as HostnameFact, revision }))
    .filter(({ value }) => value.app === app.name && value.app_id === app.id);

const claimOf = ({ view }: ApiContext, hostname: string): Revised<HostnameFact> | undefined =>
  view.replica.get(factKeys.hostname(hostname)) as Revised<HostnameFact> | undefined;

export const acmeFactOf = ({ view }: ApiContext, hostname: string): AcmeFact | undefined =>
  view.replica.get(factKeys.acme(hostname))?.value as AcmeFact | undefined;

/** @throws HearthError `hostname_not_found`, `hostname_invalid` */
export function findHostname(context: ApiContext, app: StoredApp, text: string): Revised<HostnameFact> {
  const hostname = readHostname(text);
  const claim = claimOf(context, hostname);
  if (claim?.value.app === app.name && claim.value.app_id === app.id) return claim;
  throw new HearthError("hostname_not_found", {
    message: `The app "${app.name}" has no custom domain ${hostname}; list its certificates.`,
    details: { hostname },
  });
}

type Change = Partial<Pick<HostnameFact, "acme_requested" | "custom">>;

/** Has the name be the app's, with this change. @throws HearthError `hostname_taken`, `hostname_invalid` */
export async function claimHostname(
  context: ApiContext,
  app: StoredApp,
  { text, change }: { readonly text: string; readonly change: Change },
): Promise<HostnameFact> {
  const hostname = readHostname(text);
  judgeName(context, app, hostname);
  const key = factKeys.hostname(hostname);
  for (let attempt = 1; ; attempt += 1) {
    const known = claimOf(context, hostname);
    if (known !== undefined && isOfAnother(context, app, known.value)) throw taken(hostname);
    if (known === undefined && hostnamesOf(context, app).length >= maxPerApp)
      throw new HearthError("hostname_invalid", {
        message: `The app "${app.name}" has ${maxPerApp} custom domains, which is as many as one may have; remove one.`,
      });
    const nowMs = context.nowMs();
    const before = known?.value.app_id === app.id ? known.value : undefined;
    const value: HostnameFact = {
      ...{ hostname, app: app.name, app_id: app.id, org_slug: app.org_slug, created_at_ms: nowMs },
      ...{ acme_requested: false, ...before, ...change, updated_at_ms: nowMs },
    };
    try {
      const revision = await writeFact(context, { key, value, expectedRevision: known?.revision ?? 0 });
      if (context.view.findApp(app.name)?.value.id === app.id) return value;
      // The app went meanwhile, and its names were looked for before this one was there.
      await writeFact(context, { key, value: undefined, expectedRevision: revision });
      throw context.view.missingApp(app.name);
    } catch (thrown) {
      if (HearthError.from(thrown).code !== "conflict" || attempt === tries) throw thrown;
    }
  }
}

/** A claim whose app is no more is nobody's. */
function isOfAnother({ view }: ApiContext, app: StoredApp, claim: HostnameFact): boolean {
  if (claim.app_id === app.id) return false;
  return view.findApp(claim.app)?.value.id === claim.app_id;
}

/** Names below the region's own domain are those of apps and machines. */
function judgeName({ certificates }: ApiContext, app: StoredApp, hostname: string): void {
  const { domain } = certificates;
  if (hostname !== domain && !hostname.endsWith(`.${domain}`)) return;
  if (hostname === `${app.name}.${domain}` && !isReservedName(hostname)) return;
  throw new HearthError("hostname_invalid", {
    message: `${hostname} is a name of this region itself; apps answer to their own names below ${domain} without being asked.`,
    details: { field: "hostname" },
  });
}

/** Without the wish for ACME and without a certificate of its own, a name is still the app's. */
export async function changeHostname(
  context: ApiContext,
  { value, revision }: Revised<HostnameFact>,
  drop: "acme" | "custom",
): Promise<HostnameFact> {
  const { custom, ...rest } = value;
  const next: HostnameFact = {
    ...rest,
    ...(drop === "custom" || custom === undefined ? {} : { custom }),
    acme_requested: drop === "acme" ? false : value.acme_requested,
    updated_at_ms: context.nowMs(),
  };
  await writeFact(context, {
    key: factKeys.hostname(value.hostname),
    value: next,
    expectedRevision: revision,
  });
  if (drop === "acme") await dropAcme(context, value.hostname);
  return next;
}

export async function releaseHostname(
  context: ApiContext,
  { value, revision }: Revised<HostnameFact>,
): Promise<void> {
  await writeFact(context, {
    ...{ key: factKeys.hostname(value.hostname), value: undefined, expectedRevision: revision },
  });
  await dropAcme(context, value.hostname);
}

/** Whoever deals with the authority is overtaken by this, and writes nothing more. */
async function dropAcme(context: ApiContext, hostname: string): Promise<void> {
  if (acmeFactOf(context, hostname) !== undefined)
    await writeFact(context, { key: factKeys.acme(hostname), value: undefined });
}

export async function releaseAll(context: ApiContext, app: StoredApp): Promise<void> {
  for (const claim of hostnamesOf(context, app)) await releaseHostname(context, claim);
}

const taken = (hostname: string): HearthError =>
  new HearthError("hostname_taken", {
    message: `${hostname} belongs to another app already; remove it there first, or ask the operator of the region.`,
    details: { hostname },
  });
