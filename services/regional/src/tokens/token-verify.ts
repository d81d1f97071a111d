/**
 * Whether a signed token is good: a JWT (RFC 7519) with EdDSA (RFC 8037), checked with what the replica has. No
 * network is asked. `iat` is never looked at and `nbf` never written, as the clock of the host that issued it may be
 * wrong; the end of a token is judged by the clock of this process.
 */
import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import type { Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { factKeys, type SigningKeyFact, tokenVerbs } from "@hearth/machine";
import { decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";
import Type from "typebox";
import Value from "typebox/value";
import type { TokenCredential } from "./caller.ts";
import { kidOf } from "./signing-key.ts";
import type { TokenIndex } from "./token-index.ts";

export const tokenIssuer = "hearth";
export const tokenType = "hearth-token+jwt";
/** Also what a token issued with the longest scope needs. */
export const maxTokenBytes = 8 * 1024;
export const longestChain = 8;
/** How far clocks of hosts may be apart without anybody noticing it at the end of a token. */
export const clockToleranceMs = 60_000;
/** A token that was issued elsewhere a moment ago may be here before its fact. */
const factLimitMs = 2_000;

const hashHex = Type.String({ pattern: "^[0-9a-f]{64}$" });
const texts = Type.Array(Type.String({ maxLength: 63 }), { minItems: 1, maxItems: 50 });
export const ScopeBody = Type.Object({
  verbs: Type.Array(Type.Enum([...tokenVerbs]), { minItems: 1, maxItems: tokenVerbs.length }),
  org: Type.Optional(Type.String({ maxLength: 63 })),
  apps: Type.Optional(texts),
  machines: Type.Optional(texts),
});
const Claims = Type.Object({
  jti: Type.String({ minLength: 16, maxLength: 64 }),
  exp: Type.Integer({ minimum: 0, maximum: 2 ** 40 }),
  scope: ScopeBody,
  chain: Type.Array(hashHex, { maxItems: longestChain }),
});

export const refusals = {
  missing: "the request has no token; send `Authorization: Bearer <token>`",
  malformed: "what was sent is no token of this region; check that it is whole",
  unknown_key: "it was signed by a key that this region does not know; issue a new one",
  bad_signature: "its signature does not match; check that it is whole",
  expired: "it has expired; issue a new one",
  revoked: "it, or one that it was issued from, was revoked; issue a new one",
  unknown: "this region knows no such token; issue a new one, or try again if it was issued just now",
} as const;
export type Refusal = keyof typeof refusals;

export const refused = (reason: Refusal, cause?: unknown): HearthError =>
  new HearthError("unauthenticated", {
    message: `Authenticate: token validation error: ${refusals[reason]}.`,
    details: { reason },
    cause,
  });

export const hashId = (id: string): string => createHash("sha256").update(id).digest("hex");

export interface TokenVerifierDeps {
  readonly replica: Replica;
  readonly tokens: TokenIndex;
  readonly nowMs: () => number;
}

export class TokenVerifier {
  readonly #deps: TokenVerifierDeps;
  readonly #keys = new Map<string, { readonly x: string; readonly key: KeyObject }>();

  constructor(deps: TokenVerifierDeps) {
    this.#deps = deps;
  }

  /** @throws HearthError `unauthenticated`, with the reason */
  async verify(token: string): Promise<TokenCredential> {
    if (token.length > maxTokenBytes) throw refused("malformed");
    const kid = kidIn(token);
    const key = await this.#key(kid);
    if (key === undefined) throw refused("unknown_key");
    const { nowMs, tokens } = this.#deps;
    const claims = await checkSignature(token, key, nowMs());
    if (!Value.Check(Claims, claims)) throw refused("malformed");
    const { jti, exp, scope, chain } = claims;
    const hash = hashId(jti);
    await tokens.untilKnown(hash, factLimitMs);
    const credential: TokenCredential = {
      ...{ kind: "token", hash, chain, kid, scope },
      expiresAtMs: exp * 1000,
    };
    const problem = this.problem(credential);
    if (problem !== undefined) throw refused(problem);
    return credential;
  }

  /** What has become of a token whose signature was good. */
  problem({ hash, chain, kid, expiresAtMs }: TokenCredential): Refusal | undefined {
    const { replica, tokens, nowMs } = this.#deps;
    if (replica.get(factKeys.signingKey(kid)) === undefined) return "unknown_key";
    if (expiresAtMs + clockToleranceMs <= nowMs()) return "expired";
    const known = [...chain, hash].map((each) => tokens.find(each));
    if (known.some((each) => each?.revoked_at_ms !== undefined)) return "revoked";
    // Of a parent the fact is wanted too: whoever does not have it cannot know that it was not revoked.
    return known.includes(undefined) ? "unknown" : undefined;
  }

  async #key(kid: string): Promise<KeyObject | undefined> {
    const fact = this.#deps.replica.get(factKeys.signingKey(kid))?.value as SigningKeyFact | undefined;
    if (fact === undefined) return undefined;
    const cached = this.#keys.get(kid);
    if (cached?.x === fact.x) return cached.key;
    try {
      if ((await kidOf(fact.x)) !== kid) return undefined;
      const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: fact.x }, format: "jwk" });
      this.#keys.set(kid, { x: fact.x, key });
      return key;
    } catch {
      // Whoever wrote this fact wrote no key; then there is none.
      return undefined;
    }
  }
}

function kidIn(token: string): string {
  try {
    const { kid, typ } = decodeProtectedHeader(token);
    if (typ === tokenType && typeof kid === "string" && /^[A-Za-z0-9_-]{43}$/.test(kid)) return kid;
  } catch {
    // Told below: a stranger is not told which part of it was wrong.
  }
  throw refused("malformed");
}

async function checkSignature(token: string, key: KeyObject, nowMs: number): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, key, {
      algorithms: ["EdDSA"],
      issuer: tokenIssuer,
      typ: tokenType,
      currentDate: new Date(nowMs),
      clockTolerance: clockToleranceMs / 1000,
      requiredClaims: ["jti", "exp"],
    });
    return payload;
  } catch (thrown) {
    if (thrown instanceof errors.JWTExpired) throw refused("expired", thrown);
    if (thrown instanceof errors.JWSSignatureVerificationFailed) throw refused("bad_signature", thrown);
    throw refused("malformed", thrown);
  }
}
