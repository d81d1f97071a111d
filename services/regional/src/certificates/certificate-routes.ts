/**
 * The `certificates` part of the Machines API: custom domains of an app, each with a certificate by ACME, one that was
 * uploaded, or both. An uploaded one is shown while it is good, and the issued one else.
 */
import { attemptsPerHour, checkChain, isReservedName, readHostname, sealWith } from "@hearth/acme";
import { HearthError } from "@hearth/errors";
import { factKeys, type HostnameFact, keyPurposes } from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { AppParams, answers, closed, opt } from "../http/schemas.ts";
import type { Revised } from "../state/cluster-view.ts";
import { writeFact } from "../state/write-fact.ts";
import {
  CertificateDetail,
  CertificateSummary,
  detailOf,
  summaryOf,
  type Told,
} from "./certificate-answer.ts";
import { expectedOf, requirementsOf, stateOf } from "./certificate-domain.ts";
import {
  acmeFactOf,
  changeHostname,
  claimHostname,
  findHostname,
  hostnamesOf,
  releaseHostname,
} from "./hostnames.ts";

const tags = ["certificates"];
const base = "/v1/apps/:app/certificates";
const HostParams = Type.Object({ app: Type.String(), hostname: Type.String({ maxLength: 300 }) });
const hostname = Type.String({ minLength: 1, maxLength: 300, description: "Such as www.example.com." });
const pem = (description: string) => Type.String({ minLength: 1, maxLength: 65_536, description });
const shortestRepeatMs = 60_000;

export function certificateRoutes(app: App, context: ApiContext): void {
  const told = (claim: HostnameFact): Told => ({
    claim,
    acme: acmeFactOf(context, claim.hostname),
    hasAcme: context.certificates.hasAcme,
    isReserved: isReservedName(claim.hostname),
    nowMs: context.nowMs(),
    requirements: requirementsOf(context, claim),
  });
  const appOf = ({ app: name }: { readonly app: string }) => context.view.app(name);

  app.get(
    base,
    {
      schema: {
        ...{ tags, summary: "List the custom domains of an app", params: AppParams },
        querystring: Type.Object({
          limit: opt(Type.Integer({ minimum: 1, maximum: 500 })),
          cursor: opt(Type.String({ maxLength: 300 })),
          filter: opt(Type.String({ maxLength: 300, description: "A part of the name." })),
        }),
        response: answers({
          200: Type.Object({
            certificates: Type.Array(CertificateSummary),
            next_cursor: opt(Type.String()),
            total_count: Type.Integer(),
          }),
        }),
      },
    },
    async (request) => {
      const { limit = 100, cursor = "", filter = "" } = request.query;
      const all = hostnamesOf(context, appOf(request.params))
        .map(({ value }) => value)
        .filter((claim) => claim.hostname.includes(filter.toLowerCase()))
        .sort((one, other) => (one.hostname < other.hostname ? -1 : 1));
      const rest = all.filter((claim) => claim.hostname > cursor);
      const page = rest.slice(0, limit);
      const next = rest.length > limit ? page.at(-1)?.hostname : undefined;
      return {
        certificates: page.map((claim) => summaryOf(told(claim))),
        ...(next === undefined ? {} : { next_cursor: next }),
        total_count: all.length,
      };
    },
  );

  app.post(
    `${base}/acme`,
    {
      schema: {
        ...{ tags, summary: "Add a custom domain and have a certificate issued for it", params: AppParams },
        body: Type.Object({ hostname }, closed),
        response: answers({ 201: CertificateDetail }),
      },
    },
    async (request, reply) => {
      const wish = { text: request.body.hostname, change: { acme_requested: true } };
      return reply.code(201).send(detailOf(told(await claimHostname(context, appOf(request.params), wish))));
    },
  );

  app.post(
    `${base}/custom`,
    {
      schema: {
        ...{ tags, summary: "Add a custom domain with a certificate of its own", params: AppParams },
        body: Type.Object(
          {
            hostname,
            fullchain: pem("PEM, the certificate of the name first, then its issuers."),
            private_key: pem("PEM, without a passphrase."),
          },
          closed,
        ),
        response: answers({ 201: CertificateDetail }),
      },
    },
    async (request, reply) => {
      const { fullchain, private_key: privateKey, hostname: text } = request.body;
      const name = readHostname(text);
      const nowMs = context.nowMs();
      const checked = checkChain({ hostname: name, fullchain, privateKey }, nowMs);
      const sealed_key = sealWith(context.certificates.secret.value, keyPurposes.custom(name), privateKey);
      const change = { custom: { ...checked, sealed_key, created_at_ms: nowMs } };
      const claim = await claimHostname(context, appOf(request.params), { text, change });
      return reply.code(201).send(detailOf(told(claim)));
    },
  );

  app.get(
    `${base}/:hostname`,
    {
      schema: {
        ...{ tags, summary: "Get a custom domain and its certificates", params: HostParams },
        response: answers({ 200: CertificateDetail }),
      },
    },
    async (request) => detailOf(told(claimIn(request.params).value)),
  );

  app.post(
    `${base}/:hostname/check`,
    {
      schema: {
        ...{ tags, summary: "Look the name up now, and have what failed tried again", params: HostParams },
        response: answers({ 200: CertificateDetail }),
      },
    },
    async (request) => {
      const claim = claimIn(request.params).value;
      const checked = await stateOf(context, claim, await expectedOf(context, claim));
      await hurry(context, claim);
      return detailOf({ ...told(claim), checked });
    },
  );

  app.delete(
    `${base}/:hostname`,
    {
      schema: {
        ...{ tags, summary: "Remove a custom domain and its certificates", params: HostParams },
        response: answers({ 204: Type.Null({ description: "Done; no body." }) }),
      },
    },
    async (request, reply) => {
      await releaseHostname(context, claimIn(request.params));
      return reply.code(204).send();
    },
  );

  const parts = {
    acme: "Stop asking for a certificate, and forget the issued one",
    custom: "Remove the uploaded certificate",
  } as const;
  for (const part of ["acme", "custom"] as const)
    app.delete(
      `${base}/:hostname/${part}`,
      {
        schema: {
          ...{ tags, summary: parts[part], params: HostParams },
          response: answers({ 200: CertificateDetail }),
        },
      },
      async (request) => detailOf(told(await changeHostname(context, claimIn(request.params), part))),
    );

  function claimIn(params: { readonly app: string; readonly hostname: string }): Revised<HostnameFact> {
    return findHostname(context, appOf(params), params.hostname);
  }
}

/**
 * What failed is tried at once, where the authority did not say how long to wait, there was no attempt in the last
 * minute, and the hour has one left. Who is overtaken by another change of the fact has nothing to add.
 */
async function hurry(context: ApiContext, { hostname: name, acme_requested }: HostnameFact): Promise<void> {
  const fact = acmeFactOf(context, name);
  if (!acme_requested || fact === undefined || fact.holder !== undefined || fact.failed === 0) return;
  const nowMs = context.nowMs();
  const recent = fact.attempts_ms.filter((ms) => ms > nowMs - 3_600_000);
  const isTooSoon = (recent.at(-1) ?? 0) > nowMs - shortestRepeatMs || recent.length >= attemptsPerHour;
  if (isTooSoon || (fact.rate_limited_until_ms ?? 0) > nowMs || fact.next_attempt_ms <= nowMs) return;
  const key = factKeys.acme(name);
  const expectedRevision = context.view.replica.get(key)?.revision ?? 0;
  await writeFact(context, { key, value: { ...fact, next_attempt_ms: nowMs }, expectedRevision }).catch(
    (thrown: unknown) => {
      if (HearthError.from(thrown).code !== "conflict") throw thrown;
    },
  );
}
