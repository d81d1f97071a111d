/**
 * Certificates for the SSH gateway. One is a token in another form: it is issued from the token in use, narrowed to
 * sessions and files, listed and revoked like any, and sealed into a certificate of the caller's key.
 */
import { HearthError } from "@hearth/errors";
import { parsePublicKeyLine, publicKeyLine, sealToken, signCertificate } from "@hearth/ssh-keys";
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "../http/http-server.ts";
import { answers, closed } from "../http/schemas.ts";
import { expiresIn, scopeFields } from "./scope-fields.ts";
import { orgOf, shortId } from "./token-issue.ts";
import { clockToleranceMs } from "./token-verify.ts";

export const defaultCertificateSeconds = 8 * 3600;
export const longestCertificateSeconds = 7 * 86_400;

const Wish = Type.Object(
  {
    public_key: Type.String({
      maxLength: 1024,
      description: "An Ed25519 key, as in a .pub file of OpenSSH.",
    }),
    ...scopeFields,
    expires_in: expiresIn(longestCertificateSeconds, defaultCertificateSeconds),
  },
  closed,
);

export function sshRoutes(app: App, context: ApiContext): void {
  app.post(
    "/v1/ssh/certificates",
    {
      schema: {
        tags: ["tokens"],
        summary: "Issue a certificate for SSH, narrower than the token in use",
        description: "What is absent is as in the token in use. `DELETE /v1/tokens/{token}` ends it.",
        body: Wish,
        response: answers({
          201: Type.Object({
            certificate: Type.String({ description: "As in a -cert.pub file of OpenSSH." }),
            token_id: Type.String({ description: "Of the token in it: as this it is listed and revoked." }),
            expires_at: Type.String({ format: "date-time" }),
            host_key: Type.String({ description: "Of every gateway of the region, as in known_hosts." }),
            port: Type.Integer({ description: "Where the gateway of this host listens." }),
          }),
        }),
      },
    },
    async (request, reply) => {
      const { ssh, issuer, nowMs } = context;
      if (ssh === undefined)
        throw new HearthError("not_implemented", { message: "This API was started without an SSH gateway." });
      const { authority, port } = ssh;
      const { public_key, org, apps, machines, expires_in } = request.body;
      const publicKey = parsePublicKeyLine(public_key);
      const caller = context.gate.callerOf(request);
      const { token, known } = await issuer.issue(caller, {
        ...{ label: "ssh", verbs: ["read", "exec"], apps, machines },
        org: org ?? orgOf(context, caller, apps),
        ...{ expiresInSeconds: expires_in, defaultSeconds: defaultCertificateSeconds },
      });
      const id = shortId(known.hash);
      const certificate = signCertificate(authority, {
        publicKey,
        keyId: `hearth-token-${id}`,
        // Clocks of hosts differ, and a certificate that is not valid yet is refused.
        validFromMs: nowMs() - clockToleranceMs,
        validUntilMs: known.expires_at_ms,
        sealedToken: sealToken(authority, publicKey, token),
      });
      return reply.code(201).send({
        ...{ certificate, token_id: id, expires_at: new Date(known.expires_at_ms).toISOString() },
        ...{ host_key: publicKeyLine(authority.hostPublicKey), port },
      });
    },
  );
}
