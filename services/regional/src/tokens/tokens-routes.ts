/** Tokens: issue narrower ones, list, revoke, and say what the one in use may do. */
import { HearthError } from "@hearth/errors";
import { type AdminTokenFact, factKeys, parseDurationMs, type TokenScope, tokenVerbs } from "@hearth/machine";
import type { FastifyRequest } from "fastify";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { AppParams, answers, closed, opt } from "../http/schemas.ts";
import { invalid } from "../http/validation.ts";
import { writeFact } from "../state/write-fact.ts";
import type { Caller, Credential } from "./caller.ts";
import { expiresIn, scopeFields } from "./scope-fields.ts";
import type { KnownToken } from "./token-index.ts";
import {
  defaultLifeSeconds,
  idOf,
  longestLifeSeconds,
  orgOf,
  shortId,
  type WantedToken,
} from "./token-issue.ts";
import { everything, type TokenLevel, tokenLevelNames, tokenLevels } from "./token-scope.ts";

const tags = ["tokens"];
const longestPage = 500;
const defaultPage = 100;

const Verbs = Type.Array(Type.Enum([...tokenVerbs]), { minItems: 1, uniqueItems: true });
const CreateToken = Type.Object(
  {
    label: opt(Type.String({ maxLength: 255 })),
    level: opt(Type.Enum([...tokenLevelNames], { description: "A set of verbs; `read-only` when absent." })),
    verbs: opt(Verbs),
    ...scopeFields,
    expires_in: expiresIn(longestLifeSeconds, defaultLifeSeconds),
  },
  closed,
);
const shown = {
  id: Type.String({ description: "Names it here; it cannot be used as a token." }),
  label: Type.String(),
  verbs: Type.Array(Type.Enum([...tokenVerbs])),
  level: opt(Type.Enum([...tokenLevelNames], { description: "Where the verbs are those of a level." })),
  org: opt(Type.String({ description: "Every org where absent; so with apps and machines." })),
  apps: opt(Type.Array(Type.String())),
  machines: opt(Type.Array(Type.String())),
  created_at: Type.String({ format: "date-time" }),
  expires_at: Type.String({ format: "date-time" }),
  issuer: Type.String({ description: "The id of the token that it was issued from, or `operator`." }),
  revoked_at: opt(Type.String({ format: "date-time" })),
  revoked_by: opt(Type.String()),
};
const TokenAnswer = Type.Object(shown);

const iso = (ms: number): string => new Date(ms).toISOString();

function levelOf({ verbs }: TokenScope): TokenLevel | undefined {
  const same = (level: TokenLevel): boolean =>
    tokenLevels[level].length === verbs.length && tokenLevels[level].every((verb) => verbs.includes(verb));
  return tokenLevelNames.find(same);
}

function scopeAnswer(scope: TokenScope) {
  const { verbs, org, apps, machines } = scope;
  const level = levelOf(scope);
  return {
    verbs: [...verbs],
    ...(level === undefined ? {} : { level }),
    ...(org === undefined ? {} : { org }),
    ...(apps === undefined ? {} : { apps: [...apps] }),
    ...(machines === undefined ? {} : { machines: [...machines] }),
  };
}

const tokenAnswer = (known: KnownToken) => ({
  id: shortId(known.hash),
  label: known.label,
  ...scopeAnswer(known.scope),
  created_at: iso(known.created_at_ms),
  expires_at: iso(known.expires_at_ms),
  issuer: known.issuer,
  ...(known.revoked_at_ms === undefined ? {} : { revoked_at: iso(known.revoked_at_ms) }),
  ...(known.revoked_by === undefined ? {} : { revoked_by: known.revoked_by }),
});

export function tokensRoutes(app: App, context: ApiContext): void {
  const { issuer } = context;
  const callerOf = (request: FastifyRequest): Caller => context.gate.callerOf(request);

  app.post(
    "/v1/tokens",
    {
      schema: {
        tags,
        summary: "Issue a token that is narrower than the one in use",
        description:
          "What is absent is as in the token in use. The token is in this answer and nowhere else.",
        body: CreateToken,
        response: answers({
          201: Type.Object({ ...shown, token: Type.String({ description: "Sent as `Bearer`." }) }),
        }),
      },
    },
    async (request, reply) => {
      const { level, verbs, org, apps, machines, label, expires_in } = request.body;
      if (level !== undefined && verbs !== undefined) throw invalid("verbs", "and level exclude one another");
      const wanted: WantedToken = {
        label,
        verbs: verbs ?? tokenLevels[level ?? "read-only"],
        org: org ?? orgOf(context, callerOf(request), apps),
        apps,
        machines,
        expiresInSeconds: expires_in,
      };
      const { token, known } = await issuer.issue(callerOf(request), wanted);
      return reply.code(201).send({ ...tokenAnswer(known), token });
    },
  );

  app.get(
    "/v1/tokens",
    {
      schema: {
        tags,
        summary:
          "List tokens: the one in use, what was issued from it, and with the verb `tokens` all of its scope",
        querystring: Type.Object(
          {
            cursor: opt(Type.String({ description: "The `next_cursor` of the page before." })),
            limit: opt(Type.Integer({ minimum: 1, maximum: longestPage, default: defaultPage })),
          },
          closed,
        ),
        response: answers({
          200: Type.Object({
            tokens: Type.Array(TokenAnswer),
            next_cursor: Type.String({ description: "Empty on the last page." }),
          }),
        }),
      },
    },
    async (request) => {
      const { cursor = "", limit = defaultPage } = request.query;
      const left = issuer.visible(callerOf(request)).filter(({ hash }) => shortId(hash) > cursor);
      const page = left.slice(0, limit).map(tokenAnswer);
      return { tokens: page, next_cursor: left.length > limit ? (page.at(-1)?.id ?? "") : "" };
    },
  );

  app.get(
    "/v1/tokens/current",
    {
      schema: {
        tags,
        summary: "What the token in use may do, and until when; several where several were sent",
        response: answers({
          200: Type.Object({
            tokens: Type.Array(
              Type.Object({
                ...{ token_id: Type.String(), kind: Type.Enum(["operator", "token"]), label: Type.String() },
                ...{ verbs: shown.verbs, level: shown.level },
                ...{ org: shown.org, apps: shown.apps, machines: shown.machines },
                org_slug: Type.String({ description: "Empty where every org is in the scope." }),
                expires_at: opt(
                  Type.String({ format: "date-time", description: "Absent: it does not end." }),
                ),
              }),
            ),
          }),
        }),
      },
    },
    async (request) => ({
      tokens: callerOf(request).credentials.map((credential) => currentAnswer(context, credential)),
    }),
  );

  app.delete(
    "/v1/tokens/:token",
    {
      schema: {
        tags,
        summary: "Revoke a token, and all that was issued from it",
        params: Type.Object({ token: Type.String({ pattern: "^[0-9a-f]{8,64}$" }) }),
        response: answers({ 200: TokenAnswer }),
      },
    },
    async (request) => tokenAnswer(await issuer.revoke(callerOf(request), request.params.token)),
  );

  app.put(
    "/v1/tokens/admin",
    {
      schema: {
        tags,
        summary: "Replace the operator's token in use by one of which this is the hash",
        body: Type.Object(
          { sha256: Type.String({ pattern: "^[0-9a-f]{64}$", description: "Of the new token, in hex." }) },
          closed,
        ),
        response: answers({ 200: Type.Object({ node_id: Type.String() }) }),
      },
    },
    async (request) => {
      const operator = callerOf(request).credentials.find(({ kind }) => kind === "operator");
      if (operator?.kind !== "operator")
        throw new HearthError("permission_denied", {
          message: "Only the operator's token replaces itself; use the one that `hearth up` made.",
        });
      const { nodeId } = operator;
      const fact: AdminTokenFact = {
        node_id: nodeId,
        sha256: request.body.sha256,
        changed_at_ms: context.nowMs(),
      };
      await writeFact(context, { key: factKeys.adminToken(nodeId), value: fact });
      return { node_id: nodeId };
    },
  );

  app.post(
    "/v1/apps/:app/deploy_token",
    {
      schema: {
        tags,
        summary: "Issue a token that may deploy one app",
        params: AppParams,
        body: Type.Object({ expiry: opt(Type.String({ description: "Such as `24h`." })) }, closed),
        response: answers({ 200: Type.Object({ token: Type.String() }) }),
      },
    },
    async (request) => {
      const { name, org_slug } = context.view.app(request.params.app);
      const { expiry } = request.body;
      const seconds = expiry ? Math.floor(parseDurationMs(expiry, "expiry") / 1000) : undefined;
      if (seconds !== undefined && (seconds < 1 || seconds > longestLifeSeconds))
        throw invalid("expiry", `must be from 1 s to ${longestLifeSeconds} s`);
      const { token } = await issuer.issue(callerOf(request), {
        label: `deploy ${name}`,
        verbs: tokenLevels.deploy,
        org: org_slug,
        apps: [name],
        expiresInSeconds: seconds,
      });
      return { token };
    },
  );
}

function currentAnswer({ tokens }: ApiContext, credential: Credential) {
  const { scope } = credential;
  const common = { token_id: idOf(credential), kind: credential.kind, ...scopeAnswer(scope) };
  if (credential.kind === "operator")
    return { ...common, ...scopeAnswer(everything), label: "", org_slug: "" };
  return {
    ...common,
    label: tokens.find(credential.hash)?.label ?? "",
    org_slug: scope.org ?? "",
    expires_at: iso(credential.expiresAtMs),
  };
}
