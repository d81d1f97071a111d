/**
 * Joining a region: an operator asks for a token, and a host uses it. The second route has no other guard than the
 * secret in its body, so it takes little, and seldom.
 */
import { HearthError } from "@hearth/errors";
import {
  factKeys,
  formatJoinToken,
  JoinAnswer,
  type JoinFact,
  JoinRequest,
  type NodeRole,
} from "@hearth/machine";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { RateLimit } from "../http/rate-limit.ts";
import { answers, closed, opt } from "../http/schemas.ts";
import { apiUrls, joinNode, secretHash } from "./join.ts";

const writeLimitMs = 5_000;
const bodyLimitBytes = 16 * 1024;
const secretBytes = 32;
const defaultTtlSeconds = 3600;

export function joinRoutes(app: App, context: ApiContext): void {
  const perCaller = new RateLimit({ tries: 60, perMs: 60_000 });
  const together = new RateLimit({ tries: 600, perMs: 60_000 });

  app.post(
    "/v1/nodes/join-tokens",
    {
      schema: {
        tags: ["platform"],
        summary: "Make a token that lets one host join the region",
        description: "The token is in this answer only; cluster state has the hash of its secret.",
        body: Type.Object(
          {
            api: opt(Type.Boolean({ description: "The host is to serve the API too." })),
            bus: opt(Type.Boolean({ description: "The host is to have a server of the bus too." })),
            ttl_seconds: opt(Type.Integer({ minimum: 60, maximum: 604_800 })),
          },
          closed,
        ),
        response: answers({
          200: Type.Object({
            token: Type.String(),
            roles: Type.Array(Type.String()),
            expires_at_ms: Type.Integer(),
          }),
        }),
      },
    },
    async ({ body }) => {
      const urls = apiUrls(context);
      if (urls.length === 0) throw new HearthError("region_not_reachable");
      const roles: NodeRole[] = [
        "worker",
        ...(body.api ? ["api" as const] : []),
        ...(body.bus ? ["bus" as const] : []),
      ];
      const secret = Buffer.from(context.randomBytes(secretBytes)).toString("base64url");
      const nowMs = context.nowMs();
      const expires_at_ms = nowMs + (body.ttl_seconds ?? defaultTtlSeconds) * 1000;
      const fact: JoinFact = { roles, created_at_ms: nowMs, expires_at_ms };
      const key = factKeys.join(secretHash(secret));
      const revision = await context.facts().compareAndSet(key, fact, 0);
      await context.view.replica.waitForRevision(key, revision, { timeoutMs: writeLimitMs });
      const token = formatJoinToken({ api_urls: urls, secret, region: context.region.name, roles });
      return { token, roles, expires_at_ms };
    },
  );

  app.post(
    "/v1/nodes/join",
    {
      config: { open: true },
      bodyLimit: bodyLimitBytes,
      schema: {
        tags: ["platform"],
        summary: "Join the region as a node, with a join token's secret",
        description: "The node that used a token may send the same again; any other is refused.",
        security: [],
        body: JoinRequest,
        response: answers({ 200: JoinAnswer }),
      },
    },
    async ({ body, ip }) => {
      if (!perCaller.admit(ip, context.nowMs()) || !together.admit("", context.nowMs()))
        throw new HearthError("too_many_requests");
      return joinNode(context, body, ip);
    },
  );
}
